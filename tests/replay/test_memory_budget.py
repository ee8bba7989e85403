"""The memory of a replay is known in advance, and a replay that does not fit is refused before it is allocated."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch as th
from gymnasium import spaces
from helpers import SHORT, make_random_envs
from replay_helpers import N_ACTIONS, SPACES, Player

from sb3_lwm import LWMDQN
from sb3_lwm.common.type_aliases import RecurrentState
from sb3_lwm.replay.memory_budget import USABLE, ReplayMemory, available_memory
from sb3_lwm.replay.observation_storage import ObservationStorage, observation_bytes
from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

CPU, CUDA = th.device("cpu"), th.device("cuda")
FRAMES = spaces.Box(0, 255, (1, 84, 84), np.uint8)


def allocated(buffer: SequenceReplayBuffer) -> int:
    """Return the number of bytes of all data of a buffer."""
    parts = [
        part
        for value in vars(buffer).values()
        for part in (value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value])
    ]
    return sum(part.nbytes for part in parts if isinstance(part, np.ndarray | ObservationStorage))


@pytest.mark.parametrize("space", SPACES)
def test_bytes_of_a_row(space: str) -> None:
    rows, n_envs = 500, 2
    buffer = SequenceReplayBuffer(rows * n_envs, SPACES[space], spaces.Discrete(N_ACTIONS), "cpu", n_envs, sequence_length=7)
    per_row = observation_bytes(SPACES[space]) + buffer.bytes_per_row(state_bytes=1000)
    assert per_row * rows * n_envs <= allocated(buffer) <= per_row * rows * n_envs + 100
    # action 8, reward 4, three flags
    assert per_row - observation_bytes(SPACES[space]) == 15


@pytest.mark.parametrize("stride", [1, 4, 7])
def test_states_are_stored_once_per_stride(stride: int) -> None:
    rows, n_envs = 400 // stride * stride, 2
    buffer = PrioritizedSequenceReplayBuffer(
        rows * n_envs,
        SPACES["box"],
        spaces.Discrete(N_ACTIONS),
        "cpu",
        n_envs,
        sequence_length=7,
        stride=stride,
        priority_exponent=0.9,
        importance_exponent=0.6,
    )
    player = Player(buffer)
    player.play(1)
    # 6 numbers of 4 bytes and one of 8
    assert sum(part.nbytes for part in player.memory()) == n_envs * 32
    needed = rows * n_envs * (12 + buffer.bytes_per_row(state_bytes=32, stride=stride))
    assert needed - 1e-6 <= allocated(buffer) <= needed + 100
    # observation 12, the row 15, and a weight of 8 in each stride
    assert needed == pytest.approx(rows * n_envs * (12 + 15 + (8 + 32) / stride))


def test_memory_of_a_million_atari_steps() -> None:
    states = RecurrentState(*(np.zeros((1, size), np.float32) for size in (512, 256, 32)), np.zeros(1, np.int64))
    other = PrioritizedSequenceReplayBuffer.bytes_per_row(sum(part.nbytes for part in states), stride=80)
    memory = ReplayMemory(10**6, observation_bytes(FRAMES), other, CPU, None)
    assert 7.056e9 < memory.total <= 7.2e9
    assert memory.describe() == (
        "A replay of 1000000 rows needs 7.06 GB for observations in host memory and 55.2 MB for the rest."
    )
    assert "for observations in the memory of cuda and 55.2 MB" in memory._replace(storage_device=CUDA).describe()


def set_free(monkeypatch: pytest.MonkeyPatch, **free: int) -> None:
    """Pretend that this many bytes may be used on each type of device: nine tenths of what is free."""
    monkeypatch.setattr("sb3_lwm.replay.memory_budget.available_memory", lambda device: int(free[device.type] / USABLE) + 1)


@pytest.mark.parametrize(
    ("device", "free", "largest"),
    [
        (CPU, {"cpu": 110 * 999}, 999),
        (CUDA, {"cpu": 10**9, "cuda": 100 * 700}, 700),
        (CUDA, {"cpu": 10 * 600, "cuda": 10**9}, 600),
    ],
)
def test_replay_that_does_not_fit_is_refused(
    device: th.device, free: dict[str, int], largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, **free)
    memory = ReplayMemory(1000, 100, 10.0, device, None)
    other_remedy = "compression='zstd'" if device == CPU else "storage_device='cpu'"
    with pytest.raises(MemoryError, match=rf"replay of 1000 rows .* Use buffer_size <= {largest}, or {other_remedy}"):
        memory.check()
    assert memory._replace(buffer_size=largest).check().startswith(f"A replay of {largest} rows")
    with pytest.raises(MemoryError):
        memory._replace(buffer_size=largest + 1).check()


def test_size_of_compressed_observations_is_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ReplayMemory(1000, 100_000, 10.0, CPU, "zstd")
    set_free(monkeypatch, cpu=10**9)
    assert "at most 100.0 MB, which zstd will make smaller" in memory.check()
    assert "watch the memory" not in memory.check()
    set_free(monkeypatch, cpu=10**8)
    assert memory.check().endswith("Without compression it would not fit: watch the memory, or use a smaller buffer_size.")
    # but what is not compressed must fit
    set_free(monkeypatch, cpu=9_999)
    with pytest.raises(MemoryError, match=r"Use buffer_size <= 999\.$"):
        memory.check()


# --- What is free ---


def make_group(folder: Path, limit: str, used: int = 0, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\nactive_file {cached}\ninactive_file 1\nshmem 7\n")


@pytest.mark.parametrize(("outer", "inner", "left"), [("max", "5000", 3201), ("4000", "5000", 2101), ("max", "max", None)])
def test_limits_of_containers(outer: str, inner: str, left: int | None, tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/old\n0::/user/job\n")
    make_group(tmp_path / "user", outer, used=2000, cached=100)
    make_group(tmp_path / "user" / "job", inner, used=2000, cached=200)
    free = available_memory(CPU, tmp_path, own)
    assert free == left if left is not None else free > 10**6


def test_container_that_sees_itself_as_the_root(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/\n")
    make_group(tmp_path, "5000", used=6000, cached=0)
    assert available_memory(CPU, tmp_path, own) == 0
    make_group(tmp_path, str(10**18))
    assert 10**6 < available_memory(CPU, tmp_path, own) <= psutil.virtual_memory().total


def test_free_memory_without_limits(tmp_path: Path) -> None:
    # as on other systems than Linux
    assert 10**6 < available_memory(CPU, tmp_path, tmp_path / "nothing") <= psutil.virtual_memory().total


def test_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(th.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(th.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(th.cuda, "memory_allocated", lambda device: 20)
    assert available_memory(CUDA) == 130


# --- The agent ---


def make_agent(**kwargs: Any) -> LWMDQN:
    return LWMDQN("MlpPolicy", make_random_envs(n_envs=2), seed=0, **{**SHORT, **kwargs})


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_agent_reports_the_memory_of_its_replay(prioritized_replay: bool) -> None:
    agent = make_agent(prioritized_replay=prioritized_replay, buffer_size=6000)
    needed = agent.replay_memory().total
    agent.learn(62)
    assert agent.replay_buffer is not None
    assert needed <= allocated(agent.replay_buffer) <= needed + 100


def test_verbose_agent_prints_the_memory_of_its_replay(capsys: pytest.CaptureFixture[str]) -> None:
    make_agent(verbose=1).learn(2)
    assert re.search(r"^A replay of 1000 rows needs \d+\.\d kB .* Free: [\d.]+ [GM]B on cpu\.$", capsys.readouterr().out, re.M)
    make_agent().learn(2)
    assert "replay" not in capsys.readouterr().out


def test_agent_allocates_no_replay_that_does_not_fit() -> None:
    agent = make_agent(buffer_size=10**13)
    with pytest.raises(MemoryError, match="A replay of 10000000000000 rows needs"):
        agent.learn(2)
    assert agent._replay_buffer is None


def test_saved_replay_is_loaded_without_a_second_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(prioritized_replay=True).learn(62)
    agent.save_replay_buffer(tmp_path / "replay")
    monkeypatch.delattr(LWMDQN, "allocate_replay")
    agent.load_replay_buffer(tmp_path / "replay")
    assert agent.replay_buffer is not None and agent.replay_buffer.buffer_size == 498
