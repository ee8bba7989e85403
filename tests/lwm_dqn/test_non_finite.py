"""Observations, rewards, losses and gradients that are not finite stop the training with a message that names them."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import SHORT, VECTOR, RandomEnv, changed, make_labyrinths, weights
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.common.finite_guard import NonFiniteError


def make_model(env: DummyVecEnv, policy: str = "MlpPolicy", **kwargs: Any) -> LWMDQN:
    return LWMDQN(policy, env, **{**SHORT, **kwargs})


class FaultyEnv(gym.Wrapper[Any, Any, Any, Any]):
    """The observation, the reward or a part of a dictionary breaks at a step; step 0 is the reset."""

    def __init__(self, env: gym.Env[Any, Any], part: str, step: int, value: float) -> None:
        super().__init__(env)
        self.part, self.faulty_step, self.value, self.steps = part, step, value, 0

    def _broken(self, observation: Any) -> Any:
        if self.steps != self.faulty_step:
            return observation
        if isinstance(observation, dict):
            return {**observation, self.part: np.full_like(observation[self.part], self.value)}
        if self.part == "reward":
            return observation
        return np.where(np.arange(len(observation)) == 1, np.float32(self.value), observation)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(**kwargs)
        return self._broken(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.part == "reward" and self.steps == self.faulty_step and not isinstance(observation, dict):
            reward = self.value
        return self._broken(observation), reward, terminated, truncated, info


def make_faulty(part: str, step: int, value: float, space: spaces.Space = VECTOR) -> DummyVecEnv:
    """Make three environments, the second of which breaks."""
    return DummyVecEnv(
        [lambda index=index: FaultyEnv(RandomEnv(space), part, step if index == 1 else -1, value) for index in range(3)]
    )


# in the warm-up, on the last step of an episode (what the VecEnv resets away), and while learning
@pytest.mark.parametrize("step", [3, RandomEnv.EPISODE_LENGTH, 30])
@pytest.mark.parametrize("part", ["observation", "reward"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_observation_or_reward_that_is_not_finite(part: str, step: int, value: float) -> None:
    model = make_model(make_faulty(part, step, value))
    with pytest.raises(ValueError, match=rf"{part} of environment 1 is not finite.*{value}"):
        model.learn(150)
    assert model.num_timesteps == 3 * step
    assert all(th.isfinite(tensor).all() for tensor in model.policy.state_dict().values())


@pytest.mark.parametrize("reset_num_timesteps", [True, False])
def test_first_observation_that_is_not_finite(reset_num_timesteps: bool) -> None:
    model = make_model(make_faulty("observation", 0, float("nan")))
    with pytest.raises(ValueError, match=r"observation of environment 1 is not finite.*nan"):
        model.learn(150, reset_num_timesteps=reset_num_timesteps)
    assert model.num_timesteps == 0


@pytest.mark.parametrize("key", ["vector", "reward", "observation"])
def test_part_of_a_dictionary_that_is_not_finite(key: str) -> None:
    # a part of the observation may have any name
    space = spaces.Dict({key: VECTOR, "room": spaces.Discrete(2)})
    model = make_model(make_faulty(key, 4, float("nan"), space), "MultiInputPolicy")
    with pytest.raises(ValueError, match=rf"{key}.* of environment 1 is not finite"):
        model.learn(150)


def test_rewards_too_large_for_the_loss() -> None:
    # finite each, but not their square; only ValueError and AssertionError prune a trial of Optuna's
    model = make_model(make_faulty("reward", 10, 1e30), value_rescaling=False, use_world_model=False)
    with pytest.raises(ValueError, match=r"loss.*learning_rate"):
        model.learn(600)


def test_gradient_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    model = LWMDQN("MlpPolicy", make_labyrinths(4), seed=0, **SHORT)
    model.learn(100, TrainingStateCallback(tmp_path, every_minutes=None, every_steps=50))
    before = weights(model.policy)
    for network, message in (
        (model.q_net, r"The Q-network's gradient's norm is nan: lower learning_rate"),
        (model.policy.world_model.predictor, r"The world model's gradient's norm is nan: lower world_model_learning_rate"),  # type: ignore[union-attr]
    ):
        parameter = next(network.parameters())
        hook = parameter.register_hook(lambda gradient: gradient * float("nan"))
        with pytest.raises(
            NonFiniteError, match=rf"{message}.*\(Step \d+, update \d+\. The last training state is .*state_64"
        ):
            model.train(1, 4)
        hook.remove()
        names = changed(before, weights(model.policy))
        assert not {name for name in names if name.startswith("q_net")}
        assert all(th.isfinite(tensor).all() for tensor in model.policy.state_dict().values())
