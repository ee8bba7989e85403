"""The replay in a training state: blocks of rows, of which those that have not changed are taken over."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from sb3_lwm.common.type_aliases import RecurrentState
from sb3_lwm.replay.observation_storage import BLOCK_ROWS, ObservationStorage
from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer
from sb3_lwm.training_state import storages
from sb3_lwm.training_state.files import SavedState, StateWriter

# Bytes of a block, about; compressed observations take less
BLOCK_BYTES = 8 << 20
ROWS, MEMORIES = "rows", "memories"


class ReplayMark(NamedTuple):
    """How far a replay was written when it was saved."""

    written: np.ndarray  # (n_envs,) int64
    # A replay that is reset, replaced or unpickled counts in another array: nothing of it is known to be unchanged
    counter: np.ndarray


class Block(NamedTuple):
    """A part of a series, one file."""

    series: str  # ROWS, or the MEMORIES that are stored at the start of each stride
    start: int
    stop: int

    @property
    def file(self) -> str:
        """:return: its name"""
        return f"replay_{self.series}_{self.start}_{self.stop}.npy"


def mark(buffer: SequenceReplayBuffer) -> ReplayMark:
    """
    :param buffer: that has just been saved or loaded
    :return: for the next save
    """
    return ReplayMark(buffer.written.copy(), buffer.written)


def counters(buffer: SequenceReplayBuffer) -> dict[str, Any]:
    """
    :param buffer: of a training
    :return: its sizes, to be compared, and all that is not a block of rows
    """
    return {
        "class": type(buffer).__qualname__,
        "sizes": [buffer.buffer_size, buffer.n_envs, buffer.sequence_length, buffer.stride],
        "counters": {name: getattr(buffer, name) for name in buffer.COUNTERS},
        "pending": [storages.pending(storage) for storage in _storages(buffer)],
    }


def save_rows(writer: StateWriter, buffer: SequenceReplayBuffer, before: ReplayMark | None) -> None:
    """
    :param writer: of the state
    :param buffer: whose rows are saved
    :param before: how far it was in the writer's previous state
    """
    changed = _changed_rows(buffer, before)
    for block in _blocks(buffer):
        every = buffer.stride if block.series == MEMORIES else 1
        if not changed[block.start * every : block.stop * every : every].any() and writer.keep(block.file):
            continue
        writer.write_arrays(block.file, _read(buffer, block))


def load_rows(state: SavedState, buffer: SequenceReplayBuffer, saved: dict[str, Any]) -> None:
    """
    Read the rows block by block into their places: no second copy of the replay is made.

    :param state: that has been checked
    :param buffer: newly made
    :param saved: what :func:`counters` has returned
    :raises ValueError: if the buffer is another one than that which was saved
    """
    for name in ("class", "sizes"):
        if (own := counters(buffer)[name]) != saved[name]:
            raise ValueError(
                f"The replay of {state.path} does not fit this agent: its {name} is {saved[name]}, the agent's {own} "
                "(rows, environments, rows of a sequence, rows between two sequences). Use the arguments of that training."
            )
    for name, value in saved["counters"].items():
        setattr(buffer, name, value)
    for storage, pending in zip(_storages(buffer), saved["pending"], strict=True):
        vars(storage).update(pending)
    found = [name.removesuffix(".npy").split("_") for name in state.files if name.startswith("replay_")]
    blocks = [Block(series, int(start), int(stop)) for _, series, start, stop in found]
    with tqdm(blocks, desc="Loading the replay", unit="block", disable=None, leave=False) as bar:
        for block in bar:
            _write(buffer, block, state.load_arrays(block.file))


def _changed_rows(buffer: SequenceReplayBuffer, before: ReplayMark | None) -> np.ndarray:
    """:return: (rows,) bool, which rows of any environment may have been written since"""
    if before is None or before.counter is not buffer.written:
        return np.ones(buffer.buffer_size, dtype=bool)
    changed = np.zeros(buffer.buffer_size, dtype=bool)
    for old, new in zip(before.written, buffer.written, strict=True):
        # the last row of an episode that is cut short is made its final one
        changed[np.arange(max(old - 1, new - buffer.buffer_size, 0), new) % buffer.buffer_size] = True
    return changed


def _storages(buffer: SequenceReplayBuffer) -> list[ObservationStorage]:
    return list(buffer.observations.values()) if isinstance(buffer.observations, dict) else [buffer.observations]


def _memories(buffer: SequenceReplayBuffer) -> RecurrentState | tuple[()]:
    """:return: the memories stored at the start of each stride, (strides, n_envs, ...) each; none before the first step"""
    return (buffer.states or ()) if isinstance(buffer, PrioritizedSequenceReplayBuffer) else ()


def _blocks(buffer: SequenceReplayBuffer) -> Iterator[Block]:
    """:return: the blocks in which anything was written"""
    used = int(min(buffer.written.max(), buffer.buffer_size))
    others = sum(getattr(buffer, name)[0].nbytes for name in buffer.ROW_ARRAYS)
    row_bytes = {ROWS: sum(storages.row_bytes(storage) for storage in _storages(buffer)) + others}
    if memories := _memories(buffer):
        row_bytes[MEMORIES] = sum(part[0].nbytes for part in memories)
    for series, n_bytes in row_bytes.items():
        every = buffer.stride if series == MEMORIES else 1
        length = buffer.buffer_size // every
        # compressed rows lie in blocks of their own, which are not cut
        size = -(-max(BLOCK_BYTES // max(n_bytes, 1), 1) // BLOCK_ROWS) * BLOCK_ROWS
        for start in range(0, -(-used // every), size):
            yield Block(series, start, min(start + size, length))


def _read(buffer: SequenceReplayBuffer, block: Block) -> list[np.ndarray]:
    part = slice(block.start, block.stop)
    if block.series == MEMORIES:
        return [memory[part] for memory in _memories(buffer)]
    arrays = [getattr(buffer, name)[part] for name in buffer.ROW_ARRAYS]
    for storage in _storages(buffer):
        arrays += storages.read_rows(storage, block.start, block.stop)
    return arrays


def _write(buffer: SequenceReplayBuffer, block: Block, arrays: list[np.ndarray]) -> None:
    part = slice(block.start, block.stop)
    if block.series == MEMORIES:
        assert isinstance(buffer, PrioritizedSequenceReplayBuffer)
        shape = buffer.weights.shape
        if buffer.states is None:
            buffer.states = RecurrentState(*(np.zeros((*shape, *array.shape[2:]), array.dtype) for array in arrays))
        for memory, array in zip(buffer.states, arrays, strict=True):
            memory[part] = array
        return
    rows, observations = arrays[: len(buffer.ROW_ARRAYS)], arrays[len(buffer.ROW_ARRAYS) :]
    for name, array in zip(buffer.ROW_ARRAYS, rows, strict=True):
        getattr(buffer, name)[part] = array
    each = len(observations) // len(_storages(buffer))
    for index, storage in enumerate(_storages(buffer)):
        storages.write_rows(storage, block.start, block.stop, observations[index * each : (index + 1) * each])
