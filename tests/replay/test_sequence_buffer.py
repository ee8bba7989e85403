"""The sequence replay: every window is compared, row by row, with the steps that were played."""

import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from replay_helpers import ENV_CODE, N_ACTIONS, SPACES, Player, chi_square_bound, encode
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl

from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.replay.observation_storage import HostStorage
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

LENGTH = 7


@pytest.fixture(autouse=True)
def seed_draws() -> None:
    np.random.seed(1)


def make_buffer(rows: int = 60, n_envs: int = 3, space: str = "box", **kwargs: Any) -> SequenceReplayBuffer:
    """Make a buffer with this number of rows for each environment."""
    kwargs = {"sequence_length": LENGTH, **kwargs}
    return SequenceReplayBuffer(rows * n_envs, SPACES[space], spaces.Discrete(N_ACTIONS), "cpu", n_envs, **kwargs)


def all_windows(player: Player, length: int = LENGTH) -> set[tuple[int, int]]:
    """Return the environment and first row of every window that the buffer should contain."""
    return {
        (env, first) for env, rows in enumerate(player.rows) for first in range(player.oldest(env), len(rows) - length + 1)
    }


def check_all_windows(player: Player, length: int = LENGTH) -> SequenceSamples:
    """Compare every window with the played steps, and return the samples, which are enough to contain each window."""
    expected = all_windows(player, length)
    samples = player.buffer.sample_windows(20 * len(expected), length)
    _, columns = np.unique(samples.sequence_ids, return_index=True)
    assert {player.check(samples, column) for column in columns} == expected
    return samples


@pytest.mark.parametrize("end_chance", [0.0, 0.05, 0.5, 1.0])
def test_every_window_equals_the_steps_played(end_chance: float) -> None:
    buffer = make_buffer()
    player = Player(buffer, seed=1, end_chance=end_chance)
    # before, at and long after the first wrap-around, with the write cursor in many places
    for steps in (8, 20, 30, 7, 1, 1, 40, 101):
        player.play(steps)
        check_all_windows(player)
        samples = buffer.sample(50)
        assert samples.rewards.shape == (LENGTH, 50)
        assert samples.episode_starts[0].all(), "memory starts from zero"
        assert samples.initial_states is None
        assert (samples.importance_weights == 1.0).all() and (samples.intrinsic_rewards == 0.0).all()
    assert min(len(rows) for rows in player.rows) > 3 * buffer.buffer_size
    rows = [row for rows in player.rows for row in rows]
    assert any(row.final for row in rows) == (end_chance > 0.0)
    if end_chance > 0.0:
        assert {row.termination for row in rows if row.final} == {True, False}


def test_types_and_shapes() -> None:
    buffer = make_buffer(space="image")
    Player(buffer).play(20)
    samples = buffer.sample(5)
    assert (samples.observations.shape, samples.observations.dtype) == ((LENGTH, 5, 1, 2, 3), th.uint8)
    for part, dtype in (
        (samples.actions, th.int64),
        (samples.rewards, th.float32),
        (samples.episode_starts, th.bool),
        (samples.finals, th.bool),
        (samples.terminations, th.bool),
        (samples.intrinsic_rewards, th.float32),
    ):
        assert (part.shape, part.dtype) == ((LENGTH, 5), dtype)
    assert (samples.importance_weights.shape, samples.importance_weights.dtype) == ((5,), th.float32)
    assert samples.sequence_ids.shape == (5,)


@pytest.mark.parametrize("space", SPACES)
def test_every_space(space: str) -> None:
    buffer = make_buffer(rows=30, space=space)
    player = Player(buffer, seed=2)
    player.play(70)
    samples = check_all_windows(player)
    parts = samples.observations if isinstance(samples.observations, dict) else {"": samples.observations}
    named = SPACES[space].spaces if isinstance(SPACES[space], spaces.Dict) else {"": SPACES[space]}
    for key, part in parts.items():
        assert part.numpy().dtype == named[key].dtype, "stored and returned as they came"


def test_samples_are_copies() -> None:
    buffer = make_buffer(rows=LENGTH, n_envs=1)
    player = Player(buffer)
    player.play(LENGTH)
    samples = buffer.sample(1)
    kept = [part.clone() for part in (samples.observations, samples.rewards, samples.actions)]
    player.play(LENGTH)
    assert all(th.equal(*parts) for parts in zip(kept, (samples.observations, samples.rewards, samples.actions), strict=True))
    # nor the other way round: the world model's trainer adds to the rewards
    samples = buffer.sample(1)
    samples.rewards.add_(100.0)
    samples.episode_starts.fill_(True)
    player.check(buffer.sample(1), 0)


@pytest.mark.parametrize(("steps", "n_wrapped"), [(10, 0), (18, 1), (90, 3)])
def test_every_window_has_the_same_chance(steps: int, n_wrapped: int) -> None:
    buffer = make_buffer(rows=25)
    # the environments fill their parts at their own pace
    player = Player(buffer, seed=3, end_chance=[0.0, 0.3, 0.9])
    player.play(steps)
    assert len({len(rows) for rows in player.rows}) == 3
    assert sum(player.oldest(env) > 0 for env in range(3)) == n_wrapped
    windows = all_windows(player)
    samples = buffer.sample(400 * len(windows))
    starts = samples.observations[0].long()
    drawn = Counter(divmod(int(code), ENV_CODE) for code in starts[:, 0] + 256 * starts[:, 1] + 256**2 * starts[:, 2])
    assert set(drawn) == windows
    assert sum((count - 400) ** 2 / 400 for count in drawn.values()) < chi_square_bound(len(windows) - 1)


def test_windows_of_another_length() -> None:
    buffer = make_buffer(rows=25)
    player = Player(buffer, seed=4)
    player.play(40)
    for length in (1, 3, 24, 25):
        assert len(check_all_windows(player, length).rewards) == length
    with pytest.raises(ValueError, match="No environment has 26 rows in the replay yet, the longest has 25"):
        buffer.sample_windows(1, 26)


def test_newest_windows() -> None:
    buffer = make_buffer(rows=25)
    player = Player(buffer, seed=4)
    for steps in (12, 40):
        player.play(steps)
        samples = buffer.newest_windows(12, n_envs=2)
        assert samples.rewards.shape == (12, 2)
        assert [player.check(samples, env) for env in range(2)] == [(env, len(player.rows[env]) - 12) for env in range(2)]


def test_draws_follow_the_buffers_own_generator() -> None:
    buffer = make_buffer()
    Player(buffer).play(100)
    ids = []
    for seed in (5, 5, 6):
        buffer.rng = np.random.default_rng(seed)
        ids.append(buffer.sample(30).sequence_ids.tolist())
    assert ids[0] == ids[1] != ids[2]


def test_sampling_before_there_is_a_window() -> None:
    buffer = make_buffer()
    player = Player(buffer, end_chance=[0.0, 1.0, 0.0])
    assert not buffer.can_sample() and buffer.size() == 0
    with pytest.raises(ValueError, match=r"7 rows .* the longest has 0: raise learning_starts or use shorter sequences"):
        buffer.sample(1)
    player.play(3)
    assert not buffer.can_sample()
    with pytest.raises(ValueError, match="the longest has 6"):
        buffer.sample(1)
    # environment 1 writes two rows a step: it alone has windows
    player.play(1)
    assert buffer.can_sample() and not buffer.can_sample(9)
    samples = buffer.sample(20)
    assert {player.check(samples, column)[0] for column in range(20)} == {1}
    assert buffer.size() == 4


def test_size_is_that_of_the_slowest_environment() -> None:
    buffer = make_buffer(rows=25)
    player = Player(buffer, end_chance=[0.0, 1.0, 0.0])
    for step in range(1, 60):
        player.play(1)
        assert buffer.size() == min(step, 25)
        assert buffer.full == (step >= 25)


def test_too_small_buffer() -> None:
    with pytest.raises(ValueError) as error:
        make_buffer(rows=6)
    for number in ("buffer_size=18", "6 rows", "3 environments", "a sequence has 7", "buffer_size >= 21"):
        assert number in str(error.value)
    assert make_buffer(rows=7).buffer_size == 7
    with pytest.raises(ValueError, match="buffer_size=2 leaves 0 rows"):
        SequenceReplayBuffer(2, SPACES["box"], spaces.Discrete(2), n_envs=3, sequence_length=1)


def test_reset_of_sequence_buffer() -> None:
    buffer = make_buffer(rows=25)
    Player(buffer, seed=5, end_chance=0.5).play(40)
    buffer.reset()
    assert not buffer.can_sample() and buffer.size() == 0 and not buffer.full
    # new rows have no flag of the old ones, and begin with an episode
    player = Player(buffer, seed=6, end_chance=0.1)
    player.play(20)
    check_all_windows(player)
    # the flag of the first row of a window is not compared there
    assert buffer.episode_starts[0].all()


def test_pickled_sequence_buffer_continues() -> None:
    buffer = make_buffer(rows=25, space="dict")
    player = Player(buffer, seed=7)
    player.play(31)
    file = io.BytesIO()
    save_to_pkl(file, buffer)
    file.seek(0)
    loaded = load_from_pkl(file)
    assert isinstance(loaded, SequenceReplayBuffer) and loaded is not buffer
    np.random.seed(7)
    before = buffer.sample(20)
    np.random.seed(7)
    after = loaded.sample(20)
    assert after.sequence_ids.tolist() == before.sequence_ids.tolist()
    player.buffer = loaded
    player.play(12)
    check_all_windows(player)


def test_time_outs_can_be_terminations() -> None:
    buffer = make_buffer(handle_timeout_termination=False)
    player = Player(buffer, seed=8, end_chance=0.5)
    player.play(40)
    samples = check_all_windows(player)
    assert samples.finals.any() and th.equal(samples.terminations, samples.finals)


@pytest.mark.parametrize("end_chance", [0.0, 0.3])
def test_truncate_episodes(end_chance: float) -> None:
    buffer = make_buffer(rows=25)
    player = Player(buffer, seed=9, end_chance=end_chance)
    # nothing was played: nothing to close
    player.truncate()
    assert not buffer.finals.any()
    # once after a single step, where the first row of an episode is its last; and twice in a row, which changes nothing
    for steps in (1, 9, 16, 0, 1, 30):
        player.play(steps)
        player.truncate()
        if buffer.can_sample():
            check_all_windows(player)
    assert all(rows[-1].final for rows in player.rows)
    assert buffer.terminations.any() == (end_chance > 0.0)
    player.play(3)
    check_all_windows(player)


def test_actions_in_a_column() -> None:
    # SB3's own buffers take (n_envs, action_dim)
    buffer = make_buffer(n_envs=2, sequence_length=1)
    observations = np.stack([encode(SPACES["box"], code) for code in (0, ENV_CODE)])
    buffer.add(observations, observations, np.array([[3], [4]]), np.zeros(2), np.zeros(2, bool), [{}, {}])
    samples = buffer.sample(20)
    assert set(zip(samples.observations[0, :, 1].tolist(), samples.actions[0].tolist(), strict=True)) == {(0.0, 3), (16.0, 4)}


# --- Windows within one episode ---

EPISODE_WINDOW = 5


def make_short_episodes(rows: int = 40, end_chance: float | list[float] = 0.2) -> Player:
    return Player(make_buffer(rows=rows, sequence_length=EPISODE_WINDOW), end_chance=end_chance)


def whole_windows(player: Player, length: int = EPISODE_WINDOW) -> set[tuple[int, int]]:
    """Return the environment and first row of every window in which no episode begins after the first row."""
    return {
        (env, first)
        for env, rows in enumerate(player.rows)
        for first in range(player.oldest(env), len(rows) - length + 1)
        if not any(row.episode_start for row in rows[first + 1 : first + length])
    }


def drawn_windows(samples: SequenceSamples) -> Counter[tuple[int, int]]:
    """Return the number of draws of each window, by environment and first row."""
    starts = samples.observations[0].long()
    codes = starts[:, 0] + 256 * starts[:, 1] + 256**2 * starts[:, 2]
    return Counter(divmod(code, ENV_CODE) for code in codes.tolist())


@pytest.mark.parametrize("steps", [8, 30, 90, 95])
@pytest.mark.parametrize("end_chance", [0.0, 0.2, [0.0, 0.3, 0.9]])
def test_every_window_within_an_episode_has_the_same_chance(steps: int, end_chance: float | list[float]) -> None:
    player = make_short_episodes(end_chance=end_chance)
    player.play(steps)
    # cut episodes are episodes too
    player.truncate()
    player.play(3)
    windows = whole_windows(player)
    samples = player.buffer.sample_windows(400 * len(windows), EPISODE_WINDOW, within_episode=True)
    drawn = drawn_windows(samples)
    assert set(drawn) == windows
    assert sum((count - 400) ** 2 / 400 for count in drawn.values()) < chi_square_bound(len(windows) - 1)
    _, columns = np.unique(samples.sequence_ids, return_index=True)
    assert {player.check(samples, column) for column in columns} == windows
    assert not samples.episode_starts[1:].any() and samples.episode_starts[0].all()


def test_windows_cross_episodes_by_default() -> None:
    player = make_short_episodes()
    player.play(60)
    samples = player.buffer.sample_windows(500, EPISODE_WINDOW)
    assert not set(drawn_windows(samples)) <= whole_windows(player)
    assert samples.episode_starts[1:].any()


def test_a_single_long_episode_among_many_short_ones() -> None:
    player = make_short_episodes(rows=600, end_chance=1.0)
    player.play(200)
    player.end_chance = [0.0, 1.0, 1.0]
    player.play(EPISODE_WINDOW - 1)
    player.end_chance = 1.0
    player.play(20)
    windows = whole_windows(player)
    # the long one has EPISODE_WINDOW rows and a final one
    assert len(windows) == 2
    assert set(drawn_windows(player.buffer.sample_windows(64, EPISODE_WINDOW, within_episode=True))) == windows


@pytest.mark.parametrize("length", [1, 2, 40])
def test_windows_of_any_length_within_an_episode(length: int) -> None:
    player = make_short_episodes(end_chance=0.0)
    player.play(90)
    samples = player.buffer.sample_windows(30, length, within_episode=True)
    assert set(drawn_windows(samples)) <= whole_windows(player, length)
    assert samples.rewards.shape == (length, 30)


def test_windows_within_an_episode_that_do_not_exist() -> None:
    player = make_short_episodes(end_chance=1.0)
    player.play(30)
    assert not player.buffer.can_sample(EPISODE_WINDOW, within_episode=True) and player.buffer.can_sample(EPISODE_WINDOW)
    with pytest.raises(ValueError, match=r"No episode has 5 rows in the replay yet, the longest has 2: use shorter sequences"):
        player.buffer.sample_windows(7, EPISODE_WINDOW, within_episode=True)
    assert player.buffer.can_sample(2, within_episode=True)
    assert player.buffer.sample_windows(7, 2, within_episode=True).rewards.shape == (2, 7)
    # as without the switch, where there are no windows at all
    with pytest.raises(ValueError, match="No environment has 41 rows"):
        player.buffer.sample_windows(7, 41)


def test_search_reads_no_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    player = make_short_episodes(end_chance=0.4)
    player.play(60)
    taken: list[tuple[int, ...]] = []
    take = HostStorage.take
    monkeypatch.setattr(
        HostStorage, "take", lambda self, places, device: taken.append(places.shape) or take(self, places, device)
    )
    player.buffer.sample_windows(6, EPISODE_WINDOW, within_episode=True)
    assert taken == [(EPISODE_WINDOW, 6)]


def test_many_draws_of_few_windows() -> None:
    # one window in 300 or so, asked for so often that more are rejected than the search begins with
    player = make_short_episodes(rows=600, end_chance=1.0)
    player.play(299)
    player.end_chance = [0.0, 1.0, 1.0]
    player.play(EPISODE_WINDOW - 1)
    player.end_chance = 1.0
    player.play(1)
    samples = player.buffer.sample_windows(1000, EPISODE_WINDOW, within_episode=True)
    assert set(drawn_windows(samples)) == whole_windows(player)
