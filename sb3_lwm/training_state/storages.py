"""Rows of a storage of observations as arrays, whatever the storage, and back."""

import numpy as np
import torch as th

from sb3_lwm.replay.observation_storage import BLOCK_ROWS, CompressedStorage, HostStorage, ObservationStorage, TorchStorage

# Of a compressed storage: the blocks that are not complete yet
PENDING = ("pending", "pending_blocks", "pending_rows")


def read_rows(storage: ObservationStorage, start: int, stop: int) -> list[np.ndarray]:
    """
    :param storage: of observations
    :param start: row, a multiple of ``BLOCK_ROWS``
    :param stop: row, likewise, or the number of rows
    :return: these rows of all environments, to be given to :func:`write_rows`
    """
    if isinstance(storage, CompressedStorage):
        blocks = storage.blocks[_block_slice(storage, start, stop)]
        sizes = np.array([len(block) for block in blocks], dtype=np.int64)
        return [sizes, np.frombuffer(b"".join(blocks), dtype=np.uint8)]
    if isinstance(storage, TorchStorage):
        return [storage.tensor[start * storage.n_envs : stop * storage.n_envs].cpu().numpy()]
    assert isinstance(storage, HostStorage)
    return [storage.array[start:stop]]


def write_rows(storage: ObservationStorage, start: int, stop: int, arrays: list[np.ndarray]) -> None:
    """
    :param storage: of observations, with the sizes of the one that was read
    :param start: as in :func:`read_rows`
    :param stop: likewise
    :param arrays: what that has returned
    """
    if isinstance(storage, CompressedStorage):
        sizes, data = arrays
        ends = np.cumsum(sizes)
        storage.blocks[_block_slice(storage, start, stop)] = [
            data[end - size : end].tobytes() for end, size in zip(ends, sizes, strict=True)
        ]
    elif isinstance(storage, TorchStorage):
        storage.tensor[start * storage.n_envs : stop * storage.n_envs] = th.from_numpy(arrays[0]).to(storage.tensor.device)
    else:
        assert isinstance(storage, HostStorage)
        storage.array[start:stop] = arrays[0]


def _block_slice(storage: CompressedStorage, start: int, stop: int) -> slice:
    return slice(start // BLOCK_ROWS * storage.n_envs, -(-stop // BLOCK_ROWS) * storage.n_envs)


def row_bytes(storage: ObservationStorage) -> int:
    """
    :param storage: of observations
    :return: bytes of a row of all environments, as it is
    """
    return storage.n_envs * int(np.prod(storage.shape, dtype=np.int64)) * storage.dtype.itemsize


def pending(storage: ObservationStorage) -> dict[str, np.ndarray]:
    """
    :param storage: of observations
    :return: what it holds beside its rows
    """
    return {name: getattr(storage, name) for name in PENDING} if isinstance(storage, CompressedStorage) else {}
