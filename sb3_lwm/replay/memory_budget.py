"""Check, before a replay buffer is allocated, that it fits into the memory of this machine."""

import gc
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil
import torch as th

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
# The share of the free memory that a replay may take: networks, temporary tensors and other data need the rest
USABLE = 0.9
# Measured bytes for each number of a batch: the number, its prediction, their gradients and temporary copies
BATCH_BYTES = 36
HOST = th.device("cpu")


class ReplayMemory(NamedTuple):
    """The memory that a full replay buffer and the batches drawn from it need."""

    buffer_size: int  # number of rows
    observation_bytes: int  # bytes of the observations of one row, uncompressed
    other_bytes: float  # bytes of the other parts of one row: actions, rewards, flags, hidden states
    storage_device: th.device  # device that holds the observations; the other parts are in host memory
    compression: str | None  # compression of the observations
    batch_bytes: int = 0  # bytes of the largest batch while the networks learn from it
    device: th.device = HOST  # device of the networks

    @property
    def total(self) -> int:
        """:return: The number of bytes of the full replay, uncompressed"""
        return round(self.buffer_size * (self.observation_bytes + self.other_bytes))

    def bytes_per_row(self) -> dict[th.device, float]:
        """:return: The bytes that a row needs on each device, without compressed observations, whose size is not known yet"""
        needs = {HOST: self.other_bytes}
        if self.compression is None:
            needs[self.storage_device] = needs.get(self.storage_device, 0.0) + self.observation_bytes
        return needs

    def describe(self) -> str:
        """:return: A sentence that states the needs, for the user"""
        observations = self.buffer_size * self.observation_bytes
        size = _in_words(observations)
        if self.compression is not None:
            size = f"at most {size}, which {self.compression} will make smaller (Atari frames twenty times),"
        others = _in_words(self.buffer_size * self.other_bytes)
        sentence = (
            f"A replay of {self.buffer_size} rows needs {size} for observations in {_memory_of(self.storage_device)} and "
            f"{others} for the rest."
        )
        if self.batch_bytes > 0:
            sentence += f" Batches take about {_in_words(self.batch_bytes)} in {_memory_of(self.device)}."
        return sentence

    def check(self) -> str:
        """
        :return: The result of :meth:`describe`, and the free memory
        :raises MemoryError: If it needs more than nine tenths of the free memory; the message names the largest
            ``buffer_size`` that fits, or the arguments that make batches smaller
        """
        free = self._free()
        if self._largest(free) < self.buffer_size:
            # a deleted agent leaves reference cycles, whose memory only the garbage collector frees
            gc.collect()
            free = self._free()
        largest = self._largest(free)
        free_words = ", ".join(f"{_in_words(left)} on {device}" for device, left in free.items())
        sentence = f"{self.describe()} Free: {free_words}."
        if self.batch_bytes > USABLE * free[self.device]:
            raise MemoryError(f"{sentence} Lower pretraining_batch_size, pretraining_sequence_length, batch_size or unroll.")
        if largest < self.buffer_size:
            raise MemoryError(f"{sentence} Use buffer_size <= {largest}{self._other_remedies()}.")
        if self.compression is not None and self.total > USABLE * free[HOST]:
            sentence += " Without compression it would not fit: watch the memory, or use a smaller buffer_size."
        return sentence

    def _free(self) -> dict[th.device, int]:
        """Return the free bytes of each device that is used."""
        return {device: available_memory(device) for device in [*self.bytes_per_row(), self.device]}

    def _largest(self, free: dict[th.device, int]) -> int:
        """Return the largest number of rows that fits into the free memory."""
        left = {device: USABLE * n_bytes for device, n_bytes in free.items()}
        left[self.device] -= self.batch_bytes
        return int(min(left[device] / needed for device, needed in self.bytes_per_row().items() if needed > 0))

    def _other_remedies(self) -> str:
        if self.compression is not None:
            return ""
        return ", or compression='zstd' (of images)" if self.storage_device.type == "cpu" else ", or storage_device='cpu'"


def _memory_of(device: th.device) -> str:
    return "host memory" if device.type == "cpu" else f"the memory of {device}"


def _in_words(n_bytes: float) -> str:
    for unit, size, digits in (("GB", 1e9, 2), ("MB", 1e6, 1)):
        if n_bytes >= size:
            return f"{n_bytes / size:.{digits}f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"


def available_memory(device: th.device, cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """
    :param device: The device, ``cpu`` for host memory
    :param cgroups: The folder in which Linux shows the limits of containers
    :param own_cgroup: The file that names this process's group
    :return: The number of bytes that this process may still use: the free memory, or the rest of its container's limit if
        that is less
    """
    if device.type == "cuda":
        free, _ = th.cuda.mem_get_info(device)
        # memory that PyTorch has reserved but does not use is free as well
        return free + th.cuda.memory_reserved(device) - th.cuda.memory_allocated(device)
    return min([psutil.virtual_memory().available, *_left_by_containers(cgroups, own_cgroup)])


def _left_by_containers(cgroups: Path, own_cgroup: Path) -> list[int]:
    """Return the bytes that each cgroup v2 limit on this process leaves; empty if there are no limits."""
    if not own_cgroup.exists():
        return []
    # version 2 has the line 0::/path; a container may see its own group as the root
    names = [line[len("0::") :] for line in own_cgroup.read_text().splitlines() if line.startswith("0::")]
    groups = [
        cgroups / str(group).lstrip("/") for name in names for group in (PurePosixPath(name), *PurePosixPath(name).parents)
    ]
    left = []
    for group in groups:
        limit = group / "memory.max"
        if not limit.exists() or limit.read_text().strip() == "max":
            continue
        used = int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # the kernel drops cached files when a process asks for memory
        cached = int(statistics["active_file"]) + int(statistics["inactive_file"])
        left.append(max(int(limit.read_text()) - used + cached, 0))
    return left
