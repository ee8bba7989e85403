"""Windows that lie inside one episode: only those, each with the same chance, and an end to the search."""

from collections import Counter

import numpy as np
import pytest
from gymnasium import spaces
from replay_helpers import ENV_CODE, N_ACTIONS, SPACES, Player, chi_square_bound

from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.replay.observation_storage import HostStorage
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

LENGTH = 5


@pytest.fixture(autouse=True)
def seed_draws() -> None:
    np.random.seed(1)


def make_player(rows: int = 40, end_chance: float | list[float] = 0.2, seed: int = 0) -> Player:
    buffer = SequenceReplayBuffer(rows * 3, SPACES["box"], spaces.Discrete(N_ACTIONS), "cpu", 3, sequence_length=LENGTH)
    return Player(buffer, seed=seed, end_chance=end_chance)


def whole_windows(player: Player, length: int = LENGTH) -> set[tuple[int, int]]:
    """:return: environment and first row of every window in which no episode begins after the first row"""
    return {
        (env, first)
        for env, rows in enumerate(player.rows)
        for first in range(player.oldest(env), len(rows) - length + 1)
        if not any(row.episode_start for row in rows[first + 1 : first + length])
    }


def drawn_windows(samples: SequenceSamples) -> Counter[tuple[int, int]]:
    """:return: how often each window was drawn, by environment and first row"""
    starts = samples.observations[0].long()
    codes = starts[:, 0] + 256 * starts[:, 1] + 256**2 * starts[:, 2]
    return Counter(divmod(code, ENV_CODE) for code in codes.tolist())


@pytest.mark.parametrize("steps", [8, 30, 90, 95])
@pytest.mark.parametrize("end_chance", [0.0, 0.2, [0.0, 0.3, 0.9]])
def test_each_has_the_same_chance_and_no_other_any(steps: int, end_chance: float | list[float]) -> None:
    player = make_player(end_chance=end_chance)
    player.play(steps)
    # cut episodes are episodes too
    player.truncate()
    player.play(3)
    windows = whole_windows(player)
    samples = player.buffer.sample_windows(400 * len(windows), LENGTH, within_episode=True)
    drawn = drawn_windows(samples)
    assert set(drawn) == windows
    assert sum((count - 400) ** 2 / 400 for count in drawn.values()) < chi_square_bound(len(windows) - 1)
    _, columns = np.unique(samples.sequence_ids, return_index=True)
    assert {player.check(samples, column) for column in columns} == windows
    assert not samples.episode_starts[1:].any() and samples.episode_starts[0].all()


def test_other_windows_are_drawn_unless_asked() -> None:
    player = make_player()
    player.play(60)
    samples = player.buffer.sample_windows(500, LENGTH)
    assert not set(drawn_windows(samples)) <= whole_windows(player)
    assert samples.episode_starts[1:].any()


def test_a_single_long_episode_among_many_short_ones() -> None:
    player = make_player(rows=600, end_chance=1.0)
    player.play(200)
    player.end_chance = [0.0, 1.0, 1.0]
    player.play(LENGTH - 1)
    player.end_chance = 1.0
    player.play(20)
    windows = whole_windows(player)
    # the long one has LENGTH rows and a final one
    assert len(windows) == 2
    assert set(drawn_windows(player.buffer.sample_windows(64, LENGTH, within_episode=True))) == windows


@pytest.mark.parametrize("length", [1, 2, 40])
def test_any_length(length: int) -> None:
    player = make_player(end_chance=0.0)
    player.play(90)
    samples = player.buffer.sample_windows(30, length, within_episode=True)
    assert set(drawn_windows(samples)) <= whole_windows(player, length)
    assert samples.rewards.shape == (length, 30)


def test_the_search_ends() -> None:
    player = make_player(end_chance=1.0)
    player.play(30)
    with pytest.raises(
        ValueError, match=r"windows of 5 rows only 0 lie inside one episode, 7 are needed: use shorter sequences"
    ):
        player.buffer.sample_windows(7, LENGTH, within_episode=True)
    assert player.buffer.sample_windows(7, 2, within_episode=True).rewards.shape == (2, 7)
    # as without the switch, where there are no windows at all
    with pytest.raises(ValueError, match="No environment has 41 rows"):
        player.buffer.sample_windows(7, 41, within_episode=True)


def test_no_observation_is_read_in_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    player = make_player(end_chance=0.4)
    player.play(60)
    taken: list[tuple[int, ...]] = []
    take = HostStorage.take
    monkeypatch.setattr(
        HostStorage, "take", lambda self, places, device: taken.append(places.shape) or take(self, places, device)
    )
    player.buffer.sample_windows(6, LENGTH, within_episode=True)
    assert taken == [(LENGTH, 6)]


def test_many_of_few() -> None:
    # one window in 300 or so, asked for so often that more are rejected than the search begins with
    player = make_player(rows=600, end_chance=1.0)
    player.play(299)
    player.end_chance = [0.0, 1.0, 1.0]
    player.play(LENGTH - 1)
    player.end_chance = 1.0
    player.play(1)
    samples = player.buffer.sample_windows(1000, LENGTH, within_episode=True)
    assert set(drawn_windows(samples)) == whole_windows(player)
