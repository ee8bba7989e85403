"""The replay in a training state: blocks of rows, of which the unchanged ones are taken over from the previous state."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from sb3_lwm.replay import SequenceReplayBuffer
from sb3_lwm.replay.observation_storage import BLOCK_ROWS
from sb3_lwm.training_state.files import SavedState, StateWriter

# The approximate number of bytes of a block; compressed observations take less
BLOCK_BYTES = 8 << 20


class ReplayMark(NamedTuple):
    """The number of rows that a replay had when it was saved."""

    written: np.ndarray  # (n_envs,) int64
    # The buffer's own counter: a buffer that was reset, replaced or unpickled has another array, and all its blocks are saved
    counter: np.ndarray


class Block(NamedTuple):
    """A part of a series of the buffer, stored in one file."""

    series: str
    start: int
    stop: int

    @property
    def file(self) -> str:
        """:return: The name of the file"""
        return f"replay_{self.series}_{self.start}_{self.stop}.npy"


def mark(buffer: SequenceReplayBuffer) -> ReplayMark:
    """
    :param buffer: A buffer that has just been saved or loaded
    :return: The mark that the next save compares with
    """
    return ReplayMark(buffer.written.copy(), buffer.written)


def save_blocks(writer: StateWriter, buffer: SequenceReplayBuffer, before: ReplayMark | None) -> None:
    """
    Write the blocks of a buffer that have changed, and take the others over.

    :param writer: The writer of the training state
    :param buffer: The buffer to save
    :param before: The mark of the buffer in the writer's previous state
    """
    changed = _changed_rows(buffer, before)
    for block in _blocks(buffer):
        stride = buffer.block_series()[block.series].stride
        if not changed[block.start * stride : block.stop * stride : stride].any() and writer.keep(block.file):
            continue
        writer.write_arrays(block.file, buffer.read_block(*block))


def load_blocks(state: SavedState, buffer: SequenceReplayBuffer) -> None:
    """
    Read the rows block by block into their places, without a second copy of the replay in memory.

    :param state: A training state whose files have been checked
    :param buffer: A buffer that was restored by ``set_training_state``
    """
    found = [name.removesuffix(".npy").split("_") for name in state.files if name.startswith("replay_")]
    blocks = [Block(series, int(start), int(stop)) for _, series, start, stop in found]
    with tqdm(blocks, desc="Loading the replay", unit="block", disable=None, leave=False) as bar:
        for block in bar:
            buffer.write_block(*block, state.load_arrays(block.file))


def _changed_rows(buffer: SequenceReplayBuffer, before: ReplayMark | None) -> np.ndarray:
    """Return whether each row of any environment may have been written since then, (rows,) bool."""
    if before is None or before.counter is not buffer.written:
        return np.ones(buffer.buffer_size, dtype=bool)
    changed = np.zeros(buffer.buffer_size, dtype=bool)
    for old, new in zip(before.written, buffer.written, strict=True):
        # old - 1, because the last row of a truncated episode becomes its final row
        changed[np.arange(max(old - 1, new - buffer.buffer_size, 0), new) % buffer.buffer_size] = True
    return changed


def _blocks(buffer: SequenceReplayBuffer) -> Iterator[Block]:
    """Return the blocks in which at least one row was written."""
    used = int(min(buffer.written.max(), buffer.buffer_size))
    for name, series in buffer.block_series().items():
        length = buffer.buffer_size // series.stride
        # a multiple of BLOCK_ROWS, because blocks of compressed rows cannot be divided
        size = -(-max(BLOCK_BYTES // max(series.entry_bytes, 1), 1) // BLOCK_ROWS) * BLOCK_ROWS
        for start in range(0, -(-used // series.stride), size):
            yield Block(name, start, min(start + size, length))
