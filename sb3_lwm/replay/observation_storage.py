"""Storage of a replay buffer's observations: in host memory, plain or compressed, or on a GPU."""

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

    compress: Callable[[Any], bytes]  # takes any contiguous array
    decompress: Callable[[bytes], bytes]


def _zstd() -> Codec:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError("compression='zstd' needs the package zstandard: pip install sb3-lwm[compression]") from error
    # higher levels make these blocks no smaller (benchmarks/frame_compression.py)
    return Codec(zstandard.ZstdCompressor(level=1).compress, zstandard.ZstdDecompressor().decompress)


# The codecs by the value of the argument ``compression``
CODECS: dict[str, Callable[[], Codec]] = {"zstd": _zstd}


class ObservationStorage(ABC):
    """
    Rows of observations of one space, zeros until they are written. Row ``row`` of environment ``env`` has the place
    ``row * n_envs + env``.

    :param rows: The number of rows of each environment
    :param n_envs: The number of environments
    :param space: The space of one observation; not a Dict, whose keys have a storage each
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
        Write the next row of some environments. Each environment writes its rows in order, and starts again at row 0 after
        the last one (or after a reset).

        :param rows: The number of the row of each environment, (k,) int
        :param envs: The environments, (k,) int, all different
        :param observations: The observations, (k, ...), of the space's shape or with the same number of values
        """

    @abstractmethod
    def take(self, places: np.ndarray, device: th.device) -> th.Tensor:
        """
        :param places: The places of the rows, int of any shape
        :param device: The device of the result
        :return: A copy of the rows, (\\*places.shape, \\*observation shape), of the space's dtype
        """

    @property
    def storage_device(self) -> str:
        """:return: The type of the device that holds the observations"""
        return "cpu"

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """:return: The number of bytes that the storage takes at present"""

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
        """:return: The data of the storage that :meth:`read_rows` does not return"""
        return {}

    def set_training_state(self, state: dict[str, np.ndarray]) -> None:
        """:param state: The result of :meth:`get_training_state`"""
        vars(self).update(state)


class HostStorage(ObservationStorage):
    """
    Uncompressed observations in host memory.

    :param args: The arguments of :class:`ObservationStorage`
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
    Observations in the memory of a PyTorch device, usually a GPU, to which samples then need not be copied.

    :param args: The arguments of :class:`ObservationStorage`
    :param storage_device: The device that holds the observations
    """

    def __init__(self, *args: Any, storage_device: th.device | str) -> None:
        super().__init__(*args)
        # stored as bytes, because PyTorch cannot index all of NumPy's types
        row_bytes = math.prod(self.shape) * self.dtype.itemsize
        self.tensor = th.zeros((self.rows * self.n_envs, row_bytes), dtype=th.uint8, device=storage_device)

    def write(self, rows: np.ndarray, envs: np.ndarray, observations: Any) -> None:
        # a copy, because PyTorch does not accept read-only arrays
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
        # PyTorch would pickle a second copy of the tensor, and its error on a machine without the device names no remedy
        return {**vars(self), "tensor": self.tensor.cpu().numpy(), "storage_device": str(self.tensor.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        storage_device = check_storage(state.pop("storage_device"), None)
        state["tensor"] = th.as_tensor(state["tensor"], device=storage_device)
        vars(self).update(state)


class CompressedStorage(ObservationStorage):
    """
    Observations in host memory, compressed without loss in blocks of ``BLOCK_ROWS`` rows of one environment.

    The block that an environment is writing is kept separately and uncompressed. It replaces the old block at its place only
    when it is complete, since the old rows that have not been overwritten yet can still be sampled.

    :param args: The arguments of :class:`ObservationStorage`
    :param compression: A key of ``CODECS``
    :raises ImportError: If the package of the compression is missing
    """

    def __init__(self, *args: Any, compression: str) -> None:
        super().__init__(*args)
        self.compression = compression
        self._codec = CODECS[compression]()
        self.pending = np.zeros((self.n_envs, BLOCK_ROWS, *self.shape), self.dtype)
        # the block that each environment is writing, and the number of its rows so far
        self.pending_blocks = np.zeros(self.n_envs, dtype=np.int64)
        self.pending_rows = np.zeros(self.n_envs, dtype=np.int64)
        empty = self._codec.compress(self.pending[0])
        n_blocks = -(-self.rows // BLOCK_ROWS)
        # indexed by block * n_envs + env; a short last block is filled up with rows that are never taken
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
            # a copy, because a codec may return a part of an allocation that is large enough for the worst case
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
        # each block is decompressed once, however many windows it is part of
        order = np.argsort(numbers, kind="stable")
        order = order[~is_pending[order]]
        distinct, firsts = np.unique(numbers[order], return_index=True)
        # not strict: np.split returns one empty group for an empty array
        for number, group in zip(distinct, np.split(order, firsts[1:]), strict=False):
            block = np.frombuffer(self._codec.decompress(self.blocks[number]), self.dtype).reshape(BLOCK_ROWS, *self.shape)
            array[group] = block[offsets[group]]
        return taken.to(device, non_blocking=taken.is_pinned()).reshape(*places.shape, *self.shape)

    @property
    def nbytes(self) -> int:
        # all blocks that were never written are the same object
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
        # the incomplete blocks
        return {name: getattr(self, name) for name in ("pending", "pending_blocks", "pending_rows")}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_codec"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _codec=CODECS[state["compression"]]())


def make_storage(
    rows: int, n_envs: int, space: spaces.Space, storage_device: th.device | str, compression: str | None
) -> ObservationStorage:
    """
    :param rows: The number of rows of each environment
    :param n_envs: The number of environments
    :param space: The space of one observation, not a Dict
    :param storage_device: The device that holds the observations; ``"cpu"`` is host memory
    :param compression: The compression, None or a key of ``CODECS``
    :return: A storage of zeros
    :raises ValueError: If :func:`check_storage` refuses the device or the compression
    :raises ImportError: If the package of the compression is missing
    """
    storage_device = check_storage(storage_device, compression)
    if compression is not None:
        return CompressedStorage(rows, n_envs, space, compression=compression)
    if storage_device.type == "cpu":
        return HostStorage(rows, n_envs, space)
    return TorchStorage(rows, n_envs, space, storage_device=storage_device)


def check_storage(storage_device: th.device | str, compression: str | None, must_exist: bool = True) -> th.device:
    """
    :param storage_device: The device that shall hold the observations
    :param compression: The compression, None or a key of ``CODECS``
    :param must_exist: Whether this machine must have the device
    :return: The device
    :raises ValueError: If the device or the compression does not exist, or the two cannot be combined
    """
    try:
        device = th.device(storage_device)
    except RuntimeError as error:
        raise ValueError(f"storage_device={storage_device!r} is not a device: use 'cpu' or 'cuda'.") from error
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
    :param space: The observation space, possibly a Dict
    :return: The number of bytes of one uncompressed observation
    """
    parts = space.values() if isinstance(space, spaces.Dict) else [space]
    return sum(math.prod(_row_shape(part)) * np.dtype(part.dtype).itemsize for part in parts)


def _row_shape(space: spaces.Space) -> tuple[int, ...]:
    # never called with a Dict, for which get_obs_shape returns a dictionary
    return get_obs_shape(space)  # type: ignore[return-value]


def gather(array: np.ndarray, places: np.ndarray, device: th.device) -> th.Tensor:
    """
    :param array: The rows of all environments, (rows, n_envs, ...)
    :param places: The places ``row * n_envs + env``, int of any shape
    :param device: The device of the result
    :return: A copy of the entries at these places, (\\*places.shape, ...)
    """
    # flattened to one list of rows, on which np.take is far faster than two index arrays
    flat = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
    taken = _empty((*places.shape, *array.shape[2:]), array.dtype, device)
    # mode "raise" would gather into a temporary copy first
    np.take(flat, places, axis=0, out=taken.numpy(), mode="clip")
    return taken.to(device, non_blocking=taken.is_pinned())


def to_device(array: np.ndarray, device: th.device) -> th.Tensor:
    """
    :param array: An array in host memory
    :param device: The device of the result
    :return: A tensor with the same values; a copy to a GPU is asynchronous
    """
    tensor = th.as_tensor(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _empty(shape: tuple[int, ...], dtype: np.dtype, device: th.device) -> th.Tensor:
    # copies from pinned memory to a GPU are asynchronous; PyTorch keeps the memory until the copy is complete
    return th.empty(shape, dtype=_torch_dtype(dtype), pin_memory=device.type == "cuda")


def _torch_dtype(dtype: np.dtype) -> th.dtype:
    return th.from_numpy(np.empty(0, dtype)).dtype
