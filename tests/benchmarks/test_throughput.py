"""The benchmark of throughput: its tables, and the plain versions of the fast functions."""

import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import throughput
import torch as th
from atari_helpers import SHORT_ATARI, make
from helpers import BENCHMARKS

from sb3_lwm import LWMDQN
from sb3_lwm.common.gru_kernel import load_kernel


@pytest.mark.parametrize("preset", ["labyrinth", "minigrid"])
def test_tables_of_a_small_task(preset: str) -> None:
    """With the settings that ship."""
    command = [sys.executable, BENCHMARKS / "throughput.py", "--preset", preset, "--rounds", "1", "--steps", "64"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert "LWMDQN, no world model" in result.stdout and "steps/CPU s" in result.stdout
    assert "Peak of one large matrix product" in result.stdout
    if load_kernel() is not None:
        assert "99 steps, 16 sequences, 128 units, with gradients" in result.stdout and "in registers" in result.stdout


def test_only_one_of_the_compared_unrolls_uses_the_kernel() -> None:
    calls: list[str] = []
    with mock.patch("sb3_lwm.common.gru.kernel_for", side_effect=lambda inputs: calls.append("looked for")):
        for name, tasks in throughput.unroll_tasks(5, 3, 8).items():
            for label, task in tasks.items():
                calls.clear()
                task()
                # both directions of ours look for the kernel; PyTorch's row never finds it
                assert len(calls) == ((2 if name == "with gradients" else 1) if label == "compiled" else 0)


def test_parts_and_peaks_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.print_parts(make_agent(), rounds=1)
    throughput.print_peaks(th.device("cpu"), done=1e9)
    output = capsys.readouterr().out
    assert all(part in output for part in ("environments", "acting", "sampling", "encoder, with its sampling"))
    assert "of which the update reaches" in output


def make_agent() -> LWMDQN:
    # an objective without random shifts, which the plain version draws in another order
    env = make("MontezumaRevengeNoFrameskip-v4", 2, max_episode_steps=30)
    return LWMDQN("CnnPolicy", env, seed=0, encoder_objective="inverse-dynamics", **SHORT_ATARI).learn(32)


def parameters(agent: LWMDQN) -> th.Tensor:
    """Return all parameters in one vector."""
    return th.cat([parameter.detach().flatten() for parameter in agent.policy.parameters()])


@pytest.mark.parametrize("update", [throughput._update_agent, throughput._update_encoder, throughput._update_all])
def test_plain_update_is_the_same_update(update: object) -> None:
    changes = []
    for run in (lambda task: task, throughput.plainly):
        agent = make_agent()
        if run is throughput.plainly:
            throughput.lay_out_plainly(agent)
        world_model = agent.policy.world_model
        assert world_model is not None
        before, old = (int(world_model.n_encoder_updates), int(world_model.n_updates)), parameters(agent)
        np.random.seed(1)
        th.manual_seed(1)
        run(lambda agent=agent: update(agent))()  # type: ignore[operator]
        n_updates = int(world_model.n_encoder_updates) - before[0], int(world_model.n_updates) - before[1]
        assert n_updates == (update is not throughput._update_agent, update is not throughput._update_encoder)
        changes.append(parameters(agent) - old)
    assert 0.0 < changes[0].norm() and (changes[1] - changes[0]).norm() < 1e-3 * changes[0].norm()
