"""What holds for replay buffers after any events, which hypothesis draws at random."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_helpers import SPACES, Player, check_sequence, complete_sequences, give_priorities

from sb3_lwm import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer

EVENTS = st.lists(st.tuples(st.sampled_from(["play", "sample", "truncate", "reset"]), st.integers(1, 40)), max_size=12)


def make_player(n_envs: int, sequence_length: int, stride: int | None, spare: int, compressed: bool, seed: int) -> Player:
    arguments: dict[str, Any] = {"device": "cpu", "n_envs": n_envs, "sequence_length": sequence_length}
    arguments["compression"] = "zstd" if compressed else None
    buffer_class: type[SequenceReplayBuffer] = SequenceReplayBuffer
    if stride is not None:
        arguments.update(stride=stride, priority_exponent=0.9, importance_exponent=0.6)
        buffer_class = PrioritizedSequenceReplayBuffer
    rows = buffer_class.rows_needed(sequence_length, stride or 1) + spare
    return Player(buffer_class(n_envs * rows, SPACES["image"], SPACES["discrete"], **arguments), seed)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    n_envs=st.integers(1, 4),
    sequence_length=st.integers(2, 12),
    stride=st.one_of(st.none(), st.integers(1, 6)),
    spare=st.integers(0, 30),
    compressed=st.booleans(),
    seed=st.integers(0, 1000),
    events=EVENTS,
)
def test_buffer_after_random_events(
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
            given_priorities = give_priorities(player, priority=float(amount))
            whole = complete_sequences(player)
            assert set(given_priorities) <= whole and np.count_nonzero(buffer.weights) == len(whole)
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
