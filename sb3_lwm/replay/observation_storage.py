"""Where the observations of a replay lie: in host memory as they are or compressed, or on a GPU."""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape

# Consecutive rows of one environment that are compressed together
BLOCK_ROWS = 8


class Codec(NamedTuple):
    """A lossless compression."""

    compress: Callable[[Any], bytes]  # of any contiguous array
    decompress: Callable[[bytes], bytes]


def _zstd() -> Codec:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError("compression='zstd' needs the package zstandard: pip install sb3-lwm[compression]") from error
    # higher levels make these blocks no smaller (benchmarks/frame_compression.py)
    return Codec(zstandard.ZstdCompressor(level=1).compress, zstandard.ZstdDecompressor().decompress)


# by the value of the argument ``compression``
CODECS: dict[str, Callable[[], Codec]] = {"zstd": _zstd}


class ObservationStorage(ABC):
    """
    Rows of observations of one space, zeros until they are written. Place ``row * n_envs + env`` is a row of an environment.

    :param rows: of each environment
    :param n_envs: number of environments
    :param space: of one observation; no Dict, each of whose keys has a storage of its own
    """

    compression: str | None = None

    def __init__(self, rows: int, n_envs: int, space: spaces.Space) -> None:
        self.rows = rows
        self.n_envs = n_envs
        self.shape = _row_shape(space)
        self.dtype = np.dtype(space.dtype)

    @abstractmethod
    def write(self, rows: np.ndarray, envs: np.ndarray, observations: Any) -> None:
        """
        Write the next row of some environments. Each environment writes its rows in order, and begins anew at row 0 after
        the last one (or after a reset).

        :param rows: (k,) int
        :param envs: (k,) int, all different
        :param observations: (k, ...), of the space's shape or with the same number of values
        """

    @abstractmethod
    def take(self, places: np.ndarray, device: th.device) -> th.Tensor:
        """
        :param places: int, of any shape
        :param device: of the result
        :return: (\\*places.shape, \\*observation shape), a copy, of the space's dtype
        """

    @property
    def storage_device(self) -> str:
        """:return: The type of the device that holds the observations"""
        return "cpu"

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """:return: The number of bytes in use now"""

    @property
    def row_bytes(self) -> int:
        """:return: The number of bytes of one row of all environments, uncompressed"""
        return self.n_envs * math.prod(self.shape) * self.dtype.itemsize

    @abstractmethod
    def read_rows(self, start: int, stop: int) -> list[np.ndarray]:
        """
        Read a block of rows for a training state.

        :param start: The first row, a multiple of ``BLOCK_ROWS``
        :param stop: The row after the last one, a multiple of ``BLOCK_ROWS`` or the number of rows
        :return: The rows of all environments, in a form that :meth:`write_rows` of the same class takes
        """

    @abstractmethod
    def write_rows(self, start: int, stop: int, arrays: list[np.ndarray]) -> None:
        """
        Restore a block of rows from a training state.

        :param start: The first row, as in :meth:`read_rows`
        :param stop: The row after the last one, as in :meth:`read_rows`
        :param arrays: The result of :meth:`read_rows`
        """

    def get_training_state(self) -> dict[str, np.ndarray]:
        """:return: What the storage holds beside the rows of :meth:`read_rows`"""
        return {}

    def set_training_state(self, state: dict[str, np.ndarray]) -> None:
        """:param state: The result of :meth:`get_training_state`"""
        vars(self).update(state)


class HostStorage(ObservationStorage):
    """
    In host memory as they are.

    :param args: as :class:`ObservationStorage`
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.array = np.zeros((self.rows, self.n_envs, *self.shape), self.dtype)

    def write(self, rows: np.ndarray, envs: np.ndarray, observations: Any) -> None:
        self.array[rows, envs] = np.reshape(observations, (len(envs), *self.shape))

    def take(self, places: np.ndarray, device: th.device) -> th.Tensor:
        return gather(self.array, places, device)

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def read_rows(self, start: int, stop: int) -> list[np.ndarray]:
        return [self.array[start:stop]]

    def write_rows(self, start: int, stop: int, arrays: list[np.ndarray]) -> None:
        self.array[start:stop] = arrays[0]


class TorchStorage(ObservationStorage):
    """
    In the memory of a PyTorch device, usually a GPU: what is sampled needs not be copied there.

    :param args: as :class:`ObservationStorage`
    :param storage_device: where they lie
    """

    def __init__(self, *args: Any, storage_device: th.device | str) -> None:
        super().__init__(*args)
        # as bytes, because PyTorch cannot index all of NumPy's types
        row_bytes = math.prod(self.shape) * self.dtype.itemsize
        self.tensor = th.zeros((self.rows * self.n_envs, row_bytes), dtype=th.uint8, device=storage_device)

    def write(self, rows: np.ndarray, envs: np.ndarray, observations: Any) -> None:
        # a copy, because PyTorch takes no array that must not be written to
        values = np.array(observations, self.dtype, order="C").reshape(len(envs), math.prod(self.shape)).view(np.uint8)
        places = to_device(rows * self.n_envs + envs, self.tensor.device)
        self.tensor[places] = to_device(values, self.tensor.device)

    def take(self, places: np.ndarray, device: th.device) -> th.Tensor:
        rows = self.tensor.index_select(0, to_device(places.ravel(), self.tensor.device))
        return rows.view(_torch_dtype(self.dtype)).reshape(*places.shape, *self.shape).to(device)

    @property
    def storage_device(self) -> str:
        return self.tensor.device.type

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    def read_rows(self, start: int, stop: int) -> list[np.ndarray]:
        return [self.tensor[start * self.n_envs : stop * self.n_envs].cpu().numpy()]

    def write_rows(self, start: int, stop: int, arrays: list[np.ndarray]) -> None:
        self.tensor[start * self.n_envs : stop * self.n_envs] = th.from_numpy(arrays[0]).to(self.tensor.device)

    def __getstate__(self) -> dict[str, Any]:
        # PyTorch would pickle the tensor by way of a second copy in memory, and refuse to load it with words of its own
        return {**vars(self), "tensor": self.tensor.cpu().numpy(), "storage_device": str(self.tensor.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        storage_device = check_storage(state.pop("storage_device"), None)
        state["tensor"] = th.as_tensor(state["tensor"], device=storage_device)
        vars(self).update(state)


class CompressedStorage(ObservationStorage):
    """
    In host memory, compressed without loss in blocks of ``BLOCK_ROWS`` rows of one environment.

    The block that an environment is writing lies beside the others as it is. It replaces the old block in its place when it
    is complete, not before: the old rows that have not been written over may still be drawn.

    :param args: as :class:`ObservationStorage`
    :param compression: a key of ``CODECS``
    :raises ImportError: if its package is missing
    """

    def __init__(self, *args: Any, compression: str) -> None:
        super().__init__(*args)
        self.compression = compression
        self._codec = CODECS[compression]()
        self.pending = np.zeros((self.n_envs, BLOCK_ROWS, *self.shape), self.dtype)
        # which block each environment is writing, and how many of its rows are there
        self.pending_blocks = np.zeros(self.n_envs, dtype=np.int64)
        self.pending_rows = np.zeros(self.n_envs, dtype=np.int64)
        empty = self._codec.compress(self.pending[0])
        n_blocks = -(-self.rows // BLOCK_ROWS)
        # block * n_envs + env; a short block at the end is filled up with rows that nobody takes
        self.blocks = [empty] * (n_blocks * self.n_envs)

    def write(self, rows: np.ndarray, envs: np.ndarray, observations: Any) -> None:
        blocks, offsets = np.divmod(rows, BLOCK_ROWS)
        self.pending[envs, offsets] = np.reshape(observations, (len(envs), *self.shape))
        self.pending_blocks[envs] = blocks
        self.pending_rows[envs] = offsets + 1
        complete = (offsets == BLOCK_ROWS - 1) | (rows == self.rows - 1)
        if not complete.any():
            return
        for block, env in zip(blocks[complete], envs[complete], strict=True):
            # copied: a codec may return the start of a piece of memory that is large enough for the worst case
            self.blocks[block * self.n_envs + env] = bytes(memoryview(self._codec.compress(self.pending[env])))
        self.pending_rows[envs[complete]] = 0

    def take(self, places: np.ndarray, device: th.device) -> th.Tensor:
        taken = _empty((places.size, *self.shape), self.dtype, device)
        array = taken.numpy()
        rows, envs = np.divmod(places.ravel(), self.n_envs)
        blocks, offsets = np.divmod(rows, BLOCK_ROWS)
        is_pending = (blocks == self.pending_blocks[envs]) & (offsets < self.pending_rows[envs])
        array[is_pending] = self.pending[envs[is_pending], offsets[is_pending]]
        numbers = blocks * self.n_envs + envs
        # each block is decompressed once, whichever windows it is part of
        order = np.argsort(numbers, kind="stable")
        order = order[~is_pending[order]]
        distinct, firsts = np.unique(numbers[order], return_index=True)
        # not strict: split makes one empty group of nothing
        for number, group in zip(distinct, np.split(order, firsts[1:]), strict=False):
            block = np.frombuffer(self._codec.decompress(self.blocks[number]), self.dtype).reshape(BLOCK_ROWS, *self.shape)
            array[group] = block[offsets[group]]
        return taken.to(device, non_blocking=taken.is_pinned()).reshape(*places.shape, *self.shape)

    @property
    def nbytes(self) -> int:
        # the blocks that were never written are one object
        blocks = {id(block): sys.getsizeof(block) for block in self.blocks}
        return self.pending.nbytes + sys.getsizeof(self.blocks) + sum(blocks.values())

    def _block_slice(self, start: int, stop: int) -> slice:
        return slice(start // BLOCK_ROWS * self.n_envs, -(-stop // BLOCK_ROWS) * self.n_envs)

    def read_rows(self, start: int, stop: int) -> list[np.ndarray]:
        blocks = self.blocks[self._block_slice(start, stop)]
        sizes = np.array([len(block) for block in blocks], dtype=np.int64)
        return [sizes, np.frombuffer(b"".join(blocks), dtype=np.uint8)]

    def write_rows(self, start: int, stop: int, arrays: list[np.ndarray]) -> None:
        sizes, data = arrays
        ends = np.cumsum(sizes)
        parts = zip(ends, sizes, strict=True)
        self.blocks[self._block_slice(start, stop)] = [data[end - size : end].tobytes() for end, size in parts]

    def get_training_state(self) -> dict[str, np.ndarray]:
        # the blocks that are not complete yet
        return {name: getattr(self, name) for name in ("pending", "pending_blocks", "pending_rows")}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_codec"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _codec=CODECS[state["compression"]]())


def make_storage(
    rows: int, n_envs: int, space: spaces.Space, storage_device: th.device | str, compression: str | None
) -> ObservationStorage:
    """
    :param rows: of each environment
    :param n_envs: number of environments
    :param space: of one observation, no Dict
    :param storage_device: where the observations lie; ``"cpu"`` is host memory
    :param compression: None or a key of ``CODECS``
    :return: a storage of zeros
    :raises ValueError: as :func:`check_storage`
    :raises ImportError: if the package of the compression is missing
    """
    storage_device = check_storage(storage_device, compression)
    if compression is not None:
        return CompressedStorage(rows, n_envs, space, compression=compression)
    if storage_device.type == "cpu":
        return HostStorage(rows, n_envs, space)
    return TorchStorage(rows, n_envs, space, storage_device=storage_device)


def check_storage(storage_device: th.device | str, compression: str | None, must_exist: bool = True) -> th.device:
    """
    :param storage_device: where the observations shall lie
    :param compression: how
    :param must_exist: whether this machine must have the device
    :return: the device
    :raises ValueError: if there is no such device or compression, or not both together
    """
    try:
        device = th.device(storage_device)
    except RuntimeError as error:
        raise ValueError(f"storage_device={storage_device!r} is no device: use 'cpu' or 'cuda'.") from error
    if must_exist and device.type == "cuda" and not th.cuda.is_available():
        raise ValueError(
            f"storage_device={str(storage_device)!r}: PyTorch finds no GPU here, use 'cpu' or mend its installation."
        )
    if compression is not None and compression not in CODECS:
        raise ValueError(f"compression={compression!r}: use None or one of {', '.join(map(repr, CODECS))}.")
    if compression is not None and device.type != "cpu":
        raise ValueError(
            f"storage_device={str(storage_device)!r} with compression={compression!r}: only host memory is compressed, "
            "use storage_device='cpu' or compression=None."
        )
    return device


def observation_bytes(space: spaces.Space) -> int:
    """
    :param space: of one observation, or a Dict
    :return: bytes of one observation as it is
    """
    parts = space.values() if isinstance(space, spaces.Dict) else [space]
    return sum(math.prod(_row_shape(part)) * np.dtype(part.dtype).itemsize for part in parts)


def _row_shape(space: spaces.Space) -> tuple[int, ...]:
    # a Dict, whose shapes are a dictionary, never comes here
    return get_obs_shape(space)  # type: ignore[return-value]


def gather(array: np.ndarray, places: np.ndarray, device: th.device) -> th.Tensor:
    """
    :param array: (rows, n_envs, ...)
    :param places: int, of any shape
    :param device: of the result
    :return: (\\*places.shape, ...), a copy
    """
    # seen as one long list of rows: np.take on it is far faster than two index arrays
    flat = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
    taken = _empty((*places.shape, *array.shape[2:]), array.dtype, device)
    # "raise" would gather into a copy first
    np.take(flat, places, axis=0, out=taken.numpy(), mode="clip")
    return taken.to(device, non_blocking=taken.is_pinned())


def to_device(array: np.ndarray, device: th.device) -> th.Tensor:
    """
    :param array: in host memory
    :param device: of the result
    :return: the same; a GPU copies it while the program goes on
    """
    tensor = th.as_tensor(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _empty(shape: tuple[int, ...], dtype: np.dtype, device: th.device) -> th.Tensor:
    # a GPU copies from pinned memory while the program goes on; PyTorch keeps it until the copy is done
    return th.empty(shape, dtype=_torch_dtype(dtype), pin_memory=device.type == "cuda")


def _torch_dtype(dtype: np.dtype) -> th.dtype:
    return th.from_numpy(np.empty(0, dtype)).dtype
