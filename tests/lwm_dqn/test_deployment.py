"""A trained policy without this package: traced by TorchScript, and exported by torch.export."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import NETWORKS, SHORT, make_labyrinths
from stable_baselines3.common.env_util import make_vec_env

from sb3_lwm import LWMDQN
from sb3_lwm.lwm_dqn.policies import PolicyStep

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


def trace(module: PolicyStep, inputs: tuple[th.Tensor, ...]) -> Callable[..., Any]:
    file = io.BytesIO()
    th.jit.save(th.jit.trace(module, inputs), file)
    file.seek(0)
    return th.jit.load(file)


def export(module: PolicyStep, inputs: tuple[th.Tensor, ...]) -> Callable[..., Any]:
    file = io.BytesIO()
    th.export.save(th.export.export(module, inputs), file)
    file.seek(0)
    return th.export.load(file).module()


@pytest.fixture(scope="module")
def model() -> LWMDQN:
    arguments = {**SHORT, "exploration_initial_eps": 1.0, "learning_rate": 5e-3, "policy_kwargs": NETWORKS}
    return LWMDQN("MlpPolicy", make_labyrinths(4), seed=1, **arguments).learn(1500)


@pytest.mark.parametrize("deploy", [trace, export])
def test_deployed_policy_plays_as_predict_does(deploy: Callable[..., Any], model: LWMDQN) -> None:
    env = make_vec_env("POL-v0", 2, seed=0, env_kwargs={"size": 3, "max_episode_steps": 30})
    observations, starts, expected_state = env.reset(), np.ones(2, dtype=bool), None
    state: list[th.Tensor] = list(model.policy.initial_state(2))
    step = deploy(PolicyStep(model.policy), (th.as_tensor(observations), th.as_tensor(starts), *state))
    played = []
    for _ in range(200):
        q_values, *state = step(th.as_tensor(observations), th.as_tensor(starts), *state)
        expected, expected_state = model.predict(observations, expected_state, starts, deterministic=True)
        np.testing.assert_array_equal(state[-1].numpy(), expected)
        np.testing.assert_array_equal(q_values.argmax(dim=-1).numpy(), expected)
        played.append(expected)
        observations, _, starts, _ = env.step(expected)
    # the memory matters: the four walls alone do not say where the agent came from
    assert len(np.unique(played)) > 1
    np.testing.assert_allclose(state[0].detach().numpy(), expected_state.hidden, atol=1e-5)


def test_traced_policy_answers_the_observation(model: LWMDQN) -> None:
    observations = th.as_tensor(np.random.default_rng(0).integers(2, size=(64, 4)).astype(np.int8))
    # an untrained head may prefer one action everywhere
    with th.no_grad():
        model.q_net.head.advantage[-1].weight.normal_(generator=th.Generator().manual_seed(0))
    traced = th.jit.trace(model.policy, observations[:2])
    expected, _ = model.predict(observations.numpy(), deterministic=True)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(traced(observations).numpy(), expected)
