"""Whether a replay fits into the memory of this machine, before it is allocated."""

from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil
import torch as th

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
# Of the free memory: networks, temporary tensors and what else grows during a training need some as well
USABLE = 0.9


class ReplayMemory(NamedTuple):
    """What a replay needs, at its full size."""

    buffer_size: int  # rows
    observation_bytes: int  # of one row, as it is
    other_bytes: float  # of one row: actions, rewards, flags, memories
    storage_device: th.device  # where the observations lie; the rest is in host memory
    compression: str | None  # of the observations

    @property
    def total(self) -> int:
        """:return: bytes of the full replay; more than will be used where it is compressed"""
        return round(self.buffer_size * (self.observation_bytes + self.other_bytes))

    def bytes_per_row(self) -> dict[th.device, float]:
        """:return: what is sure to be needed on each device; how well observations compress is not known in advance"""
        host = th.device("cpu")
        needs = {host: self.other_bytes}
        if self.compression is None:
            needs[self.storage_device] = needs.get(self.storage_device, 0.0) + self.observation_bytes
        return needs

    def describe(self) -> str:
        """:return: a sentence for the user"""
        observations = self.buffer_size * self.observation_bytes
        where = "host memory" if self.storage_device.type == "cpu" else f"the memory of {self.storage_device}"
        size = _in_words(observations)
        if self.compression is not None:
            size = f"at most {size}, which {self.compression} will make smaller (Atari frames twenty times),"
        others = _in_words(self.buffer_size * self.other_bytes)
        return f"A replay of {self.buffer_size} rows needs {size} for observations in {where} and {others} for the rest."

    def check(self) -> str:
        """
        :return: :meth:`describe`, and what is free
        :raises MemoryError: if it needs more than nine tenths of what is free; names the largest ``buffer_size`` that fits
        """
        free = {device: available_memory(device) for device in self.bytes_per_row()}
        fitting = [USABLE * free[device] / needed for device, needed in self.bytes_per_row().items() if needed > 0]
        largest = int(min(fitting))
        free_words = ", ".join(f"{_in_words(left)} on {device}" for device, left in free.items())
        sentence = f"{self.describe()} Free: {free_words}."
        if largest < self.buffer_size:
            raise MemoryError(f"{sentence} Use buffer_size <= {largest}{self._other_remedies()}.")
        if self.compression is not None and self.total > USABLE * free[th.device("cpu")]:
            sentence += " Without compression it would not fit: watch the memory, or use a smaller buffer_size."
        return sentence

    def _other_remedies(self) -> str:
        if self.compression is not None:
            return ""
        return ", or compression='zstd' (of images)" if self.storage_device.type == "cpu" else ", or storage_device='cpu'"


def _in_words(n_bytes: float) -> str:
    for unit, size, digits in (("GB", 1e9, 2), ("MB", 1e6, 1)):
        if n_bytes >= size:
            return f"{n_bytes / size:.{digits}f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"


def available_memory(device: th.device, cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """
    :param device: ``cpu`` for host memory
    :param cgroups: where Linux shows the limits of containers
    :param own_cgroup: the file that names this process's group
    :return: bytes that this process may still use: what is free, or what its container leaves if that is less
    """
    if device.type == "cuda":
        free, _ = th.cuda.mem_get_info(device)
        # PyTorch keeps memory that it does not use
        return free + th.cuda.memory_reserved(device) - th.cuda.memory_allocated(device)
    return min([psutil.virtual_memory().available, *_left_by_containers(cgroups, own_cgroup)])


def _left_by_containers(cgroups: Path, own_cgroup: Path) -> list[int]:
    """:return: bytes left by each limit of cgroup v2 on this process; empty without any"""
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
        # the kernel gives cached files up when memory is asked for
        cached = int(statistics["active_file"]) + int(statistics["inactive_file"])
        left.append(max(int(limit.read_text()) - used + cached, 0))
    return left
