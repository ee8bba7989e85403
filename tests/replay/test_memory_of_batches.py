"""What a training takes beside its replay is counted too, and what only waits for the garbage collector is not."""

import gc
import re
import weakref
from typing import Any

import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, make_random_envs

from sb3_lwm import LWMDQN
from sb3_lwm.replay.memory_budget import BATCH_BYTES, USABLE, ReplayMemory

CPU, CUDA = th.device("cpu"), th.device("cuda")
SMALL = ReplayMemory(1000, 100, 10.0, CPU, None)


def make_agent(space: spaces.Space = VECTOR, **kwargs: Any) -> LWMDQN:
    return LWMDQN("MlpPolicy", make_random_envs(space), seed=0, **{**SHORT, **kwargs})


def set_free(monkeypatch: pytest.MonkeyPatch, **free: int) -> None:
    """Pretend that this many bytes may be used on each type of device: nine tenths of what is free."""
    monkeypatch.setattr("sb3_lwm.replay.memory_budget.available_memory", lambda device: int(free[device.type] / USABLE) + 1)


def test_batches_leave_less_for_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(monkeypatch, cpu=110 * 1000 + 5000)
    assert "Batches" not in SMALL.check()
    assert "for the rest. Batches take about 5.0 kB in host memory. Free:" in SMALL._replace(batch_bytes=5000).check()
    with pytest.raises(MemoryError, match="Use buffer_size <= 999, or"):
        SMALL._replace(batch_bytes=5110).check()


def test_batches_that_do_not_fit_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(monkeypatch, cpu=110 * 1000)
    with pytest.raises(MemoryError, match=r"Batches take about 5\.00 GB .* Lower pretraining_batch_size"):
        SMALL._replace(batch_bytes=5 * 10**9).check()


def test_batches_lie_where_the_networks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SMALL._replace(batch_bytes=5000, device=CUDA)
    set_free(monkeypatch, cpu=110 * 1000, cuda=6000)
    assert "Batches take about 5.0 kB in the memory of cuda. Free: 122.2 kB on cpu, 6.7 kB on cuda." in memory.check()
    set_free(monkeypatch, cpu=10**9, cuda=4000)
    with pytest.raises(MemoryError, match="Lower pretraining_batch_size"):
        memory.check()
    # the observations beside them
    set_free(monkeypatch, cpu=10**9, cuda=5000 + 100 * 900)
    with pytest.raises(MemoryError, match="Use buffer_size <= 900, or storage_device='cpu'"):
        memory._replace(storage_device=CUDA).check()


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        # 4 windows of 10 rows against 4 sequences of 2 + 6 + 1
        ({"pretraining_updates": 3}, 40),
        ({"pretraining_updates": 0}, 36),
        # the default pretraining has no more rows than the warm-up
        ({"pretraining_updates": None, "pretraining_batch_size": 50}, 60),
        ({"pretraining_updates": 3, "pretraining_batch_size": 50}, 500),
        ({"use_world_model": False}, 36),
    ],
)
def test_largest_batch_of_an_agent(arguments: dict[str, Any], rows: int) -> None:
    # 200 one-hot numbers
    agent = make_agent(spaces.Discrete(200), **arguments)
    assert agent.replay_memory().batch_bytes == rows * 200 * BATCH_BYTES


def test_pretraining_that_is_done_is_not_counted() -> None:
    agent = make_agent(pretraining_batch_size=50)
    assert agent.replay_memory().batch_bytes == 500 * 3 * BATCH_BYTES
    assert agent.learn(70).replay_memory().batch_bytes == 36 * 3 * BATCH_BYTES


def test_line_for_the_user_has_the_batches(capsys: pytest.CaptureFixture[str]) -> None:
    # at the paper's sizes: 64 windows of 100 rows of 20 000 numbers
    sizes = {"pretraining_updates": 1000, "pretraining_batch_size": 64, "pretraining_sequence_length": 100}
    agent = make_agent(spaces.Discrete(20_000), policy_kwargs=NETWORKS, **sizes)
    assert re.search(
        r"needs 8\.0 kB for observations .* Batches take about 4\.61 GB in host memory", agent.replay_memory().describe()
    )


class Agent:
    """Refers to itself, as agents do by way of their callbacks."""

    def __init__(self) -> None:
        self.own = self


def test_garbage_is_collected_before_a_replay_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    gc.disable()
    try:
        agent = weakref.ref(Agent())
        assert agent() is not None
        monkeypatch.setattr("sb3_lwm.replay.memory_budget.available_memory", lambda device: 10**9 if agent() is None else 1000)
        assert SMALL.check().endswith("Free: 1.00 GB on cpu.")
        assert agent() is None
    finally:
        gc.enable()
