"""What holds for any course of events: drawn at random by hypothesis."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_helpers import SPACES, Player, check_sequence, complete_sequences, rate

from sb3_lwm import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer
from sb3_lwm.envs import PartiallyObservableLabyrinthEnv
from sb3_lwm.envs.labyrinth import DOWN, LEFT, RIGHT, UP

QUICK = settings(max_examples=40, deadline=None)
EVENTS = st.lists(st.tuples(st.sampled_from(["play", "sample", "truncate", "reset"]), st.integers(1, 40)), max_size=12)


def make_player(n_envs: int, sequence_length: int, stride: int | None, spare: int, compressed: bool, seed: int) -> Player:
    arguments: dict[str, Any] = {"device": "cpu", "n_envs": n_envs, "sequence_length": sequence_length}
    arguments["compression"] = "zstd" if compressed else None
    buffer_class: type[SequenceReplayBuffer] = SequenceReplayBuffer
    if stride is not None:
        arguments["stride"] = stride
        buffer_class = PrioritizedSequenceReplayBuffer
    rows = buffer_class.rows_needed(sequence_length, stride or 1) + spare
    return Player(buffer_class(n_envs * rows, SPACES["image"], SPACES["discrete"], **arguments), seed)  # type: ignore[arg-type]


@QUICK
@given(
    n_envs=st.integers(1, 4),
    sequence_length=st.integers(2, 12),
    stride=st.one_of(st.none(), st.integers(1, 6)),
    spare=st.integers(0, 30),
    compressed=st.booleans(),
    seed=st.integers(0, 1000),
    events=EVENTS,
)
def test_buffer(
    n_envs: int, sequence_length: int, stride: int | None, spare: int, compressed: bool, seed: int, events: list[Any]
) -> None:
    player = make_player(n_envs, sequence_length, stride, spare, compressed, seed)
    buffer = player.buffer
    np.random.seed(seed)
    for event, amount in events:
        if event == "play":
            player.play(amount)
        elif event == "truncate":
            player.truncate()
        elif event == "reset":
            buffer.reset()
            player.rows, player.is_start = [[] for _ in range(n_envs)], [True] * n_envs
        elif isinstance(buffer, PrioritizedSequenceReplayBuffer):
            rated = rate(player, priority=float(amount))
            whole = complete_sequences(player)
            assert set(rated) <= whole and np.count_nonzero(buffer.weights) == len(whole)
            if whole:
                samples = buffer.sample(4)
                assert {check_sequence(player, samples, column) for column in range(4)} <= whole
        elif buffer.can_sample():
            samples = buffer.sample(4)
            for column in range(4):
                player.check(samples, column)
        rows = [len(rows) for rows in player.rows]
        assert buffer.written.tolist() == rows and buffer.size() == min(*rows, buffer.buffer_size)
        assert not (buffer.terminations & ~buffer.finals).any()
        assert (buffer.actions[buffer.finals] == 0).all() and (buffer.rewards[buffer.finals] == 0.0).all()


@QUICK
@given(size=st.integers(2, 7), seed=st.integers(0, 2**31), actions=st.lists(st.integers(0, 3), max_size=300))
def test_labyrinth(size: int, seed: int, actions: list[int]) -> None:
    env, other = PartiallyObservableLabyrinthEnv(size), PartiallyObservableLabyrinthEnv(size)
    observation, info = env.reset(seed=seed)
    passages = env.passages
    # a spanning tree, whose passages lead there and back
    assert passages.sum() == 2 * (size * size - 1)
    assert (passages[:, 1:, LEFT] == passages[:, :-1, RIGHT]).all() and (passages[1:, :, UP] == passages[:-1, :, DOWN]).all()
    assert not (passages[:, 0, LEFT].any() or passages[:, -1, RIGHT].any())
    assert not (passages[0, :, UP].any() or passages[-1, :, DOWN].any())
    for step, action in enumerate(actions):
        before, was_open = np.array(env.position), passages[(*env.position, action)]
        if step == len(actions) // 2:
            other.set_training_state(env.get_training_state())
        observation, reward, terminated, truncated, info = env.step(action)
        if step >= len(actions) // 2:
            # one that was given the state goes the same way
            assert str(other.step(action)) == str((observation, reward, terminated, truncated, info))
        moved = np.array(env.position) - before
        assert np.abs(moved).sum() == int(was_open) and reward == -1.0 and not truncated
        assert observation.tolist() == passages[env.position].tolist() and env.visited[env.position]
        assert info["visited_cells"] == env.visited.sum() and terminated == env.visited.all()
        assert env.observation_space.contains(observation) and (env.passages == passages).all()
