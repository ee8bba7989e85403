"""The replay in a training state: it is restored to the last bit, and unchanged blocks are written once."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from replay_helpers import N_ACTIONS, SPACES, STORAGES, Player, give_priorities, stored

from sb3_lwm import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer
from sb3_lwm.training_state import files, replay
from sb3_lwm.training_state.packing import pack, unpack


def make_buffer(storage: str, prioritized: bool) -> SequenceReplayBuffer:
    arguments: dict[str, Any] = {"device": "cpu", "n_envs": 3, "sequence_length": 6}
    if storage == "zstd":
        arguments["compression"] = "zstd"
    if prioritized:
        arguments.update(stride=4, priority_exponent=0.9, importance_exponent=0.6)
    space = SPACES["image"]
    buffer_class = PrioritizedSequenceReplayBuffer if prioritized else SequenceReplayBuffer
    buffer = buffer_class(3 * 40, space, spaces.Discrete(N_ACTIONS), **arguments)
    if storage == "torch":
        buffer.observations = STORAGES["torch"](buffer.buffer_size, 3, space)
    return buffer


def save(folder: Path, name: str, buffer: SequenceReplayBuffer, last: Any) -> tuple[Any, int]:
    previous, before = last or (None, None)
    with files.StateWriter(folder, name, previous) as writer:
        arrays: list[np.ndarray] = []
        packed = pack(buffer.get_training_state(), arrays)
        replay.save_blocks(writer, buffer, before)
        writer.write_arrays("counters.npy", arrays)
        state = writer.commit({"packed": packed})
    return (state, replay.mark(buffer)), writer.written_bytes


def load(state: files.SavedState, buffer: SequenceReplayBuffer) -> None:
    state = files.read_state(state.path)
    buffer.set_training_state(unpack(state.info["packed"], state.load_arrays("counters.npy")))
    replay.load_blocks(state, buffer)


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("storage", STORAGES)
def test_restored_replay_equals_the_saved_one(
    storage: str, prioritized: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # blocks of 8 rows
    monkeypatch.setattr(replay, "BLOCK_BYTES", 100)
    player = Player(make_buffer(storage, prioritized))
    last = None
    for round_, steps in enumerate((0, 5, 1, 30, 2, 55, 9)):
        player.play(steps)
        if prioritized:
            give_priorities(player, priority=1.0 + round_)
        if round_ == 4:
            player.truncate()
        last, _ = save(tmp_path, f"state_{round_}", player.buffer, last)
        loaded = make_buffer(storage, prioritized)
        load(last[0], loaded)
        for name in ("observations", *loaded.ROW_ARRAYS):
            np.testing.assert_array_equal(stored(loaded, name), stored(player.buffer, name))
        for name in loaded.COUNTERS:
            np.testing.assert_array_equal(getattr(loaded, name), getattr(player.buffer, name))
        if isinstance(loaded, PrioritizedSequenceReplayBuffer) and loaded.states is not None:
            for part, other in zip(loaded.states, player.buffer.states, strict=True):  # type: ignore[attr-defined]
                np.testing.assert_array_equal(part, other)


def test_every_array_of_a_buffer_is_saved() -> None:
    for prioritized in (False, True):
        buffer = make_buffer("host", prioritized)
        held = {name for name, value in vars(buffer).items() if isinstance(value, np.ndarray)} | {"pos", "full"}
        assert held == {*buffer.ROW_ARRAYS, *buffer.COUNTERS, "_envs"}


def test_unchanged_blocks_are_shared_with_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BLOCK_BYTES", 100)
    player = Player(make_buffer("host", prioritized=False), end_chance=0.0)
    player.play(30)
    last, first_bytes = save(tmp_path, "state_30", player.buffer, None)
    player.play(2)
    newer, bytes_ = save(tmp_path, "state_32", player.buffer, last)
    assert bytes_ < 0.6 * first_bytes
    files.remove_states([last[0].path])
    loaded = make_buffer("host", prioritized=False)
    load(newer[0], loaded)
    np.testing.assert_array_equal(stored(loaded, "observations"), stored(player.buffer, "observations"))
    # a file system without hard links, and a buffer that was reset
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    player.play(1)
    copied, bytes_ = save(tmp_path, "state_33", player.buffer, newer)
    assert bytes_ < 0.6 * first_bytes
    load(copied[0], make_buffer("host", prioritized=False))
    player.buffer.reset()
    player.rows = [[] for _ in range(3)]
    player.play(33)
    _, bytes_ = save(tmp_path, "state_66", player.buffer, copied)
    assert bytes_ >= first_bytes


def test_replay_of_another_class_or_size_is_refused(tmp_path: Path) -> None:
    player = Player(make_buffer("host", prioritized=False))
    player.play(5)
    (state, _), _ = save(tmp_path, "state_5", player.buffer, None)
    with pytest.raises(ValueError, match=r"does not fit this agent: its class is SequenceReplayBuffer"):
        load(state, make_buffer("host", prioritized=True))
    longer = SequenceReplayBuffer(3 * 41, SPACES["image"], spaces.Discrete(N_ACTIONS), "cpu", 3, sequence_length=6)
    with pytest.raises(ValueError, match=r"its sizes is \[40, 3, 6, 1\], the agent's \[41, 3, 6, 1\]"):
        load(state, longer)
