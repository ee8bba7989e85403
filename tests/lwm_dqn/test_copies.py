"""Agents are copied and pickled like those of Stable-Baselines3."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from helpers import NETWORKS, SHORT, changed, make_random_envs, weights
from replay_helpers import stored
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_lwm import LWMDQN, TrainingStateCallback


class BatchNormExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space: gym.Space[Any]) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))
        self.batch_norm = th.nn.BatchNorm1d(self.features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.batch_norm(observations.flatten(1))


def pickled(model: LWMDQN) -> LWMDQN:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("make_copy", [copy.deepcopy, pickled])
@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_a_copy_learns_as_the_original(
    make_copy: Callable[[LWMDQN], LWMDQN], prioritized_replay: bool, tmp_path: Path
) -> None:
    arguments = {
        **SHORT,
        "policy_kwargs": {**NETWORKS, "features_extractor_class": BatchNormExtractor},
        "exploration_initial_eps": 0.5,
        "tensorboard_log": str(tmp_path / "log"),
        "prioritized_replay": prioritized_replay,
        "verbose": 1,
    }
    model = LWMDQN("MlpPolicy", make_random_envs(n_envs=2), seed=0, **arguments)
    # the callback has opened files and locked a folder
    model.learn(100, TrainingStateCallback(tmp_path / "states", every_minutes=None))
    other = make_copy(model)
    assert other.policy.rng is other.rng and other.q_net is other.policy.q_net
    assert other.world_model_trainer is not None and other.world_model_trainer.world_model is other.policy.world_model
    assert not changed(weights(model.policy), weights(other.policy))
    for agent in (model, other):
        agent.learn(60, reset_num_timesteps=False)
    assert model._n_updates == other._n_updates and not changed(weights(model.policy), weights(other.policy))
    np.testing.assert_array_equal(*(stored(agent.replay_buffer, "observations") for agent in (model, other)))  # type: ignore[arg-type]
    # the target network takes over the copy's own statistics
    means = [network.features_extractor.batch_norm.running_mean for network in (other.q_net, other.q_net_target)]
    assert th.equal(*means) and means[0].abs().sum() > 0.0  # type: ignore[call-overload]


def test_a_copy_is_another_agent() -> None:
    model = LWMDQN("MlpPolicy", make_random_envs(), seed=0, **SHORT).learn(80)
    before, state = weights(model.policy), model.rng.bit_generator.state
    copy.deepcopy(model).learn(80)
    assert not changed(before, weights(model.policy)) and model.rng.bit_generator.state == state
    assert model.num_timesteps == 80 and model.logger is not None
