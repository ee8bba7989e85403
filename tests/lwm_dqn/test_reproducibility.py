"""The same seed gives the same agent, to the last bit."""

from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import SHORT, changed, make_labyrinths, make_random_envs, weights
from replay_helpers import stored
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_lwm import LWMDQN


def learn(env: VecEnv, seed: int, **kwargs: Any) -> LWMDQN:
    # what other code has drawn before must not matter
    np.random.seed()
    th.seed()
    model = LWMDQN("MlpPolicy", env, seed=seed, **SHORT, **kwargs).learn(200)
    env.close()
    return model


def assert_equal(first: LWMDQN, second: LWMDQN) -> None:
    assert not changed(weights(first.policy), weights(second.policy))
    assert first.replay_buffer is not None and second.replay_buffer is not None
    for name in ("observations", "actions", "rewards", "finals", "written"):
        np.testing.assert_array_equal(stored(first.replay_buffer, name), stored(second.replay_buffer, name))


@pytest.mark.parametrize("prioritized_replay", [False, True])
@pytest.mark.parametrize("n_envs", [1, 4])
def test_same_seed_same_agent(n_envs: int, prioritized_replay: bool) -> None:
    arguments = {"prioritized_replay": prioritized_replay, "exploration_initial_eps": 0.5, "exploration_fraction": 1.0}
    first, second, other = (learn(make_random_envs(n_envs=n_envs), seed, **arguments) for seed in (3, 3, 4))
    assert_equal(first, second)
    assert first.policy.world_model is not None and int(first.policy.world_model.n_updates) == 3 + first._n_updates > 3
    # every network that learns, not only one, depends on the seed
    differences = changed(weights(first.policy), weights(other.policy))
    assert {"q_net.memory.cell.weight_hh", "q_net_target.memory.cell.weight_hh", "world_model.normalizer.mean"} <= differences
    assert "world_model.predictor.memory.cell.weight_hh" in differences
    assert first.replay_buffer is not None and other.replay_buffer is not None
    assert not np.array_equal(stored(first.replay_buffer, "observations"), stored(other.replay_buffer, "observations"))


def test_same_seed_same_agent_in_labyrinths() -> None:
    first, second = (learn(make_labyrinths(n_envs=2, seed=seed), 3) for seed in (3, 3))
    assert_equal(first, second)


@pytest.mark.parametrize("prioritized_replay", [False, True])
@pytest.mark.parametrize("n_envs", [1, 4])
def test_same_agent_with_environments_in_processes(n_envs: int, prioritized_replay: bool) -> None:
    first, second = (
        learn(make_random_envs(n_envs=n_envs, vec_env_cls=vec_env_cls), 3, prioritized_replay=prioritized_replay)
        for vec_env_cls in (DummyVecEnv, SubprocVecEnv)
    )
    assert_equal(first, second)
