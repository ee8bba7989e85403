"""The prioritised sequence replay: which sequences there are, how often they are drawn, and their initial states."""

import io
import itertools
import pickle
import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from replay_helpers import N_ACTIONS, SPACES, Player, check_sequence, chi_square_bound, complete_sequences, give_priorities
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl

from sb3_lwm.common.type_aliases import RecurrentState
from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer

LENGTH, STRIDE, ROWS = 7, 4, 32


@pytest.fixture(autouse=True)
def seed_draws() -> None:
    np.random.seed(1)


def make_buffer(rows: int = ROWS, n_envs: int = 3, space: str = "box", **kwargs: Any) -> PrioritizedSequenceReplayBuffer:
    """Make a buffer with this number of rows for each environment."""
    exponents = {"priority_exponent": 0.9, "importance_exponent": 0.6}
    kwargs = {"sequence_length": LENGTH, "stride": STRIDE, **exponents, **kwargs}
    return PrioritizedSequenceReplayBuffer(rows * n_envs, SPACES[space], spaces.Discrete(N_ACTIONS), "cpu", n_envs, **kwargs)


@pytest.mark.parametrize(("length", "stride", "rows"), [(7, 4, 32), (5, 5, 20), (3, 8, 24), (9, 1, 20), (8, 4, 15)])
@pytest.mark.parametrize("seed", range(3))
def test_sequences_without_priority_against_brute_force(length: int, stride: int, rows: int, seed: int) -> None:
    # 15 rows are cut to 12, in which sequences of 8 lie as tightly as can be
    buffer = make_buffer(rows=rows, sequence_length=length, stride=stride)
    player = Player(buffer, seed=seed, end_chance=[0.0, 0.15, 0.8])
    rng = np.random.default_rng(seed)
    returned: set[tuple[int, int]] = set()
    for call in range(60):
        # mostly often enough to give every sequence a priority, sometimes so rarely that some are overwritten before
        player.play(int(rows + rng.integers(rows) if call % 10 == 9 else rng.integers(stride + 1)))
        expected = complete_sequences(player) - returned
        assert set(give_priorities(player)) == expected
        returned |= expected
        assert len(buffer.take_without_priority(n_waiting=0)) == 0, "each is returned once"
    assert min(len(rows) for rows in player.rows) > 4 * buffer.buffer_size
    ever_complete = sum(max((len(rows) - length) // stride + 1, 0) for rows in player.rows)
    assert 0 < len(returned) < ever_complete


@pytest.mark.parametrize("end_chance", [0.0, 0.2, 1.0])
def test_only_complete_sequences_with_a_priority_are_drawn(end_chance: float) -> None:
    buffer = make_buffer()
    player = Player(buffer, seed=1, end_chance=end_chance)
    prioritized: set[tuple[int, int]] = set()
    n_starts_on_finals = n_waiting = 0
    for play in range(80):
        player.play(1)
        # every third time, so that some wait for their priority meanwhile
        if play % 3 == 0:
            prioritized |= set(give_priorities(player))
        expected = prioritized & complete_sequences(player)
        n_waiting += len(complete_sequences(player) - expected)
        if not expected:
            continue
        samples = buffer.sample(15 * len(expected))
        _, columns = np.unique(samples.sequence_ids, return_index=True)
        drawn = {check_sequence(player, samples, column) for column in columns}
        assert drawn == expected
        n_starts_on_finals += sum(player.rows[env][first].final for env, first in drawn)
    assert n_waiting > 0
    # with 1.0 every second row is final, and the stride is even
    assert (n_starts_on_finals > 0) == (end_chance == 0.2)
    assert min(len(rows) for rows in player.rows) > 2 * ROWS


def test_a_sequence_may_start_on_a_final_row() -> None:
    # episodes of two steps: rows 2, 5, 8 ... are final, sequences start at 0, 4, 8 ...
    buffer = make_buffer(n_envs=1)
    player = Player(buffer)
    for _ in range(20):
        player.end_chance = 0.0
        player.play(1)
        player.end_chance = 1.0
        player.play(1)
    starts = {first: player.rows[0][first] for _, first in give_priorities(player)}
    assert {first for first, row in starts.items() if row.final} == {first for first in starts if first % 3 == 2} != set()
    assert {first for first, row in starts.items() if row.episode_start} == {first for first in starts if first % 3 == 0}


def test_states_may_be_tensors_without_columns() -> None:
    # as LWMDQN passes it: tensors, and without a world model two of them have no columns
    buffer = make_buffer(n_envs=2)
    player = Player(buffer)
    states = RecurrentState(th.tensor([[1.0], [2.0]]), th.zeros(2, 0), th.zeros(2, 0), th.tensor([3, 4]))
    player.play(LENGTH, states=states, next_states=states)
    ids = buffer.take_without_priority(n_waiting=0)
    initial = buffer.sequences(ids).initial_states
    assert initial is not None
    assert [tuple(part.shape) for part in initial] == [(len(ids), 1), (len(ids), 0), (len(ids), 0), (len(ids),)]
    assert set(zip(initial.hidden[:, 0].tolist(), initial.last_actions.tolist(), strict=True)) == {(1.0, 3), (2.0, 4)}
    assert (initial.hidden.dtype, initial.last_actions.dtype) == (th.float32, th.int64)


def test_stored_states_are_copies() -> None:
    buffer = make_buffer(n_envs=1)
    player = Player(buffer)
    states = player.memory()
    player.play(1, states=states)
    for part in states:
        part += 1
    player.play(LENGTH)
    # compares with the memory before the row, as it was
    assert set(give_priorities(player)) >= {(0, 0)}


@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.9])
def test_draws_are_in_proportion_to_the_priorities(exponent: float) -> None:
    buffer = make_buffer(priority_exponent=exponent, importance_exponent=0.0)
    player = Player(buffer, seed=2)
    player.play(60)
    named = give_priorities(player)
    ids = np.array(list(named.values()))
    # priorities over two orders of magnitude, given in two portions and some of them twice
    priorities = np.geomspace(1.0, 100.0, len(ids))
    buffer.update_priorities(ids[:9], th.full((9,), 5.0))
    buffer.update_priorities(ids[6:], th.as_tensor(priorities[6:]))
    buffer.update_priorities(ids[:6], th.as_tensor(priorities[:6]))
    weights = priorities**exponent
    expected = 40_000 * weights / weights.sum()
    samples = buffer.sample(40_000)
    assert (samples.importance_weights == 1.0).all(), "switched off"
    counts = Counter(samples.sequence_ids.tolist())
    assert set(counts) == set(ids.tolist()) and expected.min() > 20
    drawn = np.array([counts[sequence_id] for sequence_id in ids])
    assert ((drawn - expected) ** 2 / expected).sum() < chi_square_bound(len(ids) - 1)


def test_importance_weights_by_hand() -> None:
    buffer = make_buffer(n_envs=1, priority_exponent=0.5, importance_exponent=0.5)
    player = Player(buffer, end_chance=0.0)
    player.play(LENGTH + 2 * STRIDE)
    ids = buffer.take_without_priority(n_waiting=0)
    # 16^.5 = 4 and 4^-.5 = 1/2; 81^.5 = 9 and 9^-.5 = 1/3; 1
    buffer.update_priorities(ids, th.tensor([16.0, 81.0, 1.0]))
    by_hand = dict(zip(ids.tolist(), [1 / 2, 1 / 3, 1.0], strict=True))
    largest = set()
    for _ in range(100):
        samples = buffer.sample(2)
        weights = [by_hand[sequence_id] for sequence_id in samples.sequence_ids.tolist()]
        # divided by the largest of this batch, not of the buffer
        assert samples.importance_weights.tolist() == pytest.approx([weight / max(weights) for weight in weights])
        largest.add(max(weights))
    assert largest == {1 / 2, 1 / 3, 1.0}


def test_a_priority_of_zero_stays_in_the_draw() -> None:
    buffer = make_buffer(n_envs=1)
    player = Player(buffer)
    player.play(40)
    named = give_priorities(player, priority=0.0)
    samples = buffer.sample(200)
    assert set(samples.sequence_ids.tolist()) == set(named.values())
    assert (samples.importance_weights == 1.0).all()


@pytest.mark.parametrize(("chance", "drawn"), [(0.0, (0, STRIDE)), (np.nextafter(1.0, 0.0), (0, 7 * STRIDE))])
def test_lowest_and_highest_random_numbers(chance: float, drawn: tuple[int, int]) -> None:
    # neither the sequence that is being overwritten, in the first slot, nor one past the last slot
    buffer = make_buffer(n_envs=1)
    player = Player(buffer, end_chance=0.0)
    player.play(ROWS)
    give_priorities(player)
    player.play(STRIDE - 1)
    buffer.update_priorities(buffer.take_without_priority(n_waiting=0), th.ones(1))
    # NumPy's generators have no attributes to replace
    buffer.rng = SimpleNamespace(random=lambda size: np.full(size, chance))  # type: ignore[assignment]
    samples = buffer.sample(3)
    assert [check_sequence(player, samples, column) for column in range(3)] == [drawn] * 3


def test_sequences_without_priority_wait_for_each_other() -> None:
    buffer = make_buffer(n_envs=1)
    player = Player(buffer, end_chance=0.0)
    player.play(LENGTH)
    # the first one does not wait: there would be nothing to draw
    first = buffer.take_without_priority(n_waiting=3)
    assert len(first) == 1
    buffer.update_priorities(first, th.ones(1))
    for n_complete in (1, 2):
        player.play(STRIDE)
        assert len(buffer.take_without_priority(n_waiting=n_complete + 1)) == 0
    second = buffer.take_without_priority(n_waiting=2)
    assert len(second) == 2 and not set(second) & set(first)
    assert len(buffer.take_without_priority(n_waiting=0)) == 0


class OnGPU:
    """Priorities on another device, which count how often they are read back."""

    device = th.device("cuda")

    def __init__(self, values: th.Tensor) -> None:
        self.values = values
        self.n_reads = 0

    def cpu(self) -> th.Tensor:
        self.n_reads += 1
        return self.values


def test_priorities_on_a_gpu_are_read_back_before_they_are_needed() -> None:
    for use in (
        lambda player: player.buffer.sample(1),
        lambda player: player.play(1),
        lambda player: player.buffer.get_training_state(),
        lambda player: pickle.dumps(player.buffer),
    ):
        buffer = make_buffer(n_envs=1, priority_exponent=0.5)
        player = Player(buffer, end_chance=0.0)
        player.play(LENGTH)
        ids = buffer.take_without_priority(n_waiting=0)
        first, second = OnGPU(th.tensor([4.0])), OnGPU(th.tensor([9.0]))
        for priorities in (first, second):
            buffer.update_priorities(ids, priorities)  # type: ignore[arg-type]
        assert first.n_reads == second.n_reads == 0 and not buffer.weights.any()
        use(player)
        assert first.n_reads == second.n_reads == 1
        # the later one
        assert buffer.weights.reshape(-1)[ids].tolist() == [3.0]


def test_priorities_must_be_finite() -> None:
    buffer = make_buffer(n_envs=1)
    Player(buffer, end_chance=0.0).play(LENGTH)
    ids = buffer.take_without_priority(n_waiting=0)
    with pytest.raises(ValueError, match=r"TD error that is not finite \(priorities \[nan\]\): lower learning_rate"):
        buffer.update_priorities(ids, th.tensor([th.nan]))
    buffer.update_priorities(ids, OnGPU(th.tensor([th.inf])))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="TD error that is not finite"):
        buffer.sample(1)


def test_states_are_required() -> None:
    for without in ({"states": None}, {"states": None, "next_states": None}):
        with pytest.raises(ValueError, match=r"actor's memory: add\(\.\.\., states=\.\.\., next_states=\.\.\.\)"):
            Player(make_buffer()).play(1, **without)
    # the next sequence starts on row 4, the final one of an episode of four steps: with the memory after row 3
    player = Player(make_buffer(), end_chance=0.0)
    player.play(3)
    player.end_chance = 1.0
    with pytest.raises(ValueError, match="actor's memory"):
        player.play(1, next_states=None)


def test_sampling_before_the_first_priority() -> None:
    buffer = make_buffer()
    player = Player(buffer, end_chance=0.0)
    with pytest.raises(ValueError, match="No sequence has a priority yet"):
        buffer.sample(1)
    player.play(LENGTH - 1)
    assert not buffer.can_sample() and len(buffer.take_without_priority(n_waiting=0)) == 0
    player.play(1)
    assert buffer.can_sample()
    with pytest.raises(ValueError, match=r"give those of take_without_priority\(\) to update_priorities\(\) first"):
        buffer.sample(1)
    assert set(give_priorities(player)) == {(0, 0), (1, 0), (2, 0)}
    assert buffer.sample(4).rewards.shape == (LENGTH, 4)


@pytest.mark.parametrize(("length", "stride"), [(7, 4), (8, 4), (9, 4), (5, 5), (3, 8), (49, 32)])
def test_too_small_buffer_names_a_size_that_works(length: int, stride: int) -> None:
    n_envs = 2
    with pytest.raises(ValueError, match=f"a sequence has {length} ") as error:
        make_buffer(rows=length - 1, n_envs=n_envs, sequence_length=length, stride=stride)
    remedy = re.search(r"buffer_size >= (\d+)", str(error.value))
    assert remedy is not None
    enough, rest = divmod(int(remedy.group(1)), n_envs)
    assert rest == 0
    buffer = make_buffer(rows=enough, n_envs=n_envs, sequence_length=length, stride=stride)
    assert buffer.buffer_size >= length


@pytest.mark.parametrize(("length", "stride"), [(8, 4), (9, 4), (5, 5), (3, 8), (9, 1)])
def test_smallest_buffer_always_has_a_sequence(length: int, stride: int) -> None:
    # else training stops in the middle of a run, wherever the write cursor leaves no whole sequence
    for rows in itertools.count(1):
        try:
            buffer = make_buffer(rows=rows, n_envs=1, sequence_length=length, stride=stride)
            break
        except ValueError:
            continue
    player = Player(buffer, seed=3, end_chance=0.1)
    for _ in range(5 * rows):
        player.play(1)
        give_priorities(player)
        if buffer.can_sample():
            buffer.sample(1)
    assert buffer.full


def test_reset_of_prioritized_buffer() -> None:
    buffer = make_buffer()
    player = Player(buffer, seed=4)
    player.play(50)
    give_priorities(player)
    buffer.reset()
    assert not buffer.can_sample() and len(buffer.take_without_priority(n_waiting=0)) == 0
    with pytest.raises(ValueError, match="No sequence has a priority yet"):
        buffer.sample(1)
    player = Player(buffer, seed=5)
    player.play(50)
    assert set(give_priorities(player)) == complete_sequences(player)


def test_pickled_prioritized_buffer_continues() -> None:
    buffer = make_buffer(space="dict")
    player = Player(buffer, seed=6)
    player.play(41)
    prioritized = set(give_priorities(player))
    file = io.BytesIO()
    save_to_pkl(file, buffer)
    file.seek(0)
    player.buffer = loaded = load_from_pkl(file)
    assert isinstance(loaded, PrioritizedSequenceReplayBuffer)
    player.play(9)
    prioritized |= set(give_priorities(player))
    samples = loaded.sample(400)
    assert {check_sequence(player, samples, column) for column in range(400)} == prioritized & complete_sequences(player)


def test_truncated_episodes_end_sequences() -> None:
    buffer = make_buffer()
    player = Player(buffer, seed=7, end_chance=0.1)
    returned: set[tuple[int, int]] = set()
    for steps in (5, 1, 11, 20, 20):
        player.play(steps)
        player.truncate()
        expected = complete_sequences(player) - returned
        assert set(give_priorities(player)) == expected
        returned |= expected
    assert any(row.episode_start and row.final for rows in player.rows for row in rows)
