"""Episodes that are shorter than the windows of the encoder of images: its updates are left out, the training goes on."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import NETWORKS, SHORT, changed, make_random_envs, weights
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_lwm import LWMDQN, IntrinsicRewardCallback

GRID = spaces.Box(0, 255, (7, 7, 3), np.uint8)
WARNING = r"windows of \d+ consecutive observations .*'sequence_length': 2"


class ShorterEpisodes(gym.Env[np.ndarray, int]):
    """Random images. The first episodes have 7 steps, those after ``n_steps`` steps a single one."""

    observation_space = GRID
    action_space = spaces.Discrete(2)

    def __init__(self, n_steps: int = 0) -> None:
        self.n_steps = n_steps
        self.steps = self.episode_steps = 0

    def _image(self) -> np.ndarray:
        return self.np_random.integers(0, 256, GRID.shape, dtype=np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode_steps = 0
        return self._image(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.episode_steps += 1
        return self._image(), 1.0, self.steps > self.n_steps or self.episode_steps == 7, False, {}


def make_model(env: Any, objective: str = "w-mse", objective_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> LWMDQN:
    world_model_kwargs = {
        **NETWORKS["world_model_kwargs"],
        "encoder_objective_kwargs": {"batch_size": 8, **(objective_kwargs or {})},
    }
    policy_kwargs = {**NETWORKS, "world_model_kwargs": world_model_kwargs}
    arguments = {**SHORT, "policy_kwargs": policy_kwargs, "encoder_objective": objective, **kwargs}
    return LWMDQN("CnnPolicy", env, seed=0, **arguments)


def make_envs(n_steps: int = 0) -> Any:
    return make_vec_env(ShorterEpisodes, 2, seed=0, env_kwargs={"n_steps": n_steps})


def encoder_updates(model: LWMDQN) -> int:
    assert model.policy.world_model is not None
    return int(model.policy.world_model.n_encoder_updates)


def test_episodes_of_one_step() -> None:
    model = make_model(make_envs())
    with pytest.warns(UserWarning, match=WARNING) as caught:
        model.learn(150)
    # once, though every rollout would have had an update
    assert len(caught) == 1
    assert encoder_updates(model) == 0 and model._n_updates > 5
    assert model.policy.world_model is not None and int(model.policy.world_model.n_updates) > 8


def test_remedy_of_the_warning() -> None:
    # an observation and a final one
    model = make_model(make_envs(), objective_kwargs={"sequence_length": 2}).learn(150)
    assert encoder_updates(model) > 5


def test_episodes_that_become_shorter() -> None:
    # the replay holds 40 rows of each environment: the long episodes are gone after some steps
    model = make_model(make_envs(n_steps=50), buffer_size=80, learning_starts=60)
    with pytest.warns(UserWarning, match=WARNING):
        model.learn(300)
    updates = encoder_updates(model)
    assert updates > SHORT["encoder_pretraining_updates"]
    model.learn(40, reset_num_timesteps=False)
    assert encoder_updates(model) == updates


def test_agent_that_was_loaded_without_its_replay(tmp_path: Path) -> None:
    # an episode has 7 steps: the windows of 8 rows are there after the first one
    kwargs = {"objective_kwargs": {"batch_size": 4, "sequence_length": 8}, "encoder_pretraining_updates": 0}
    model = make_model(make_envs(n_steps=1000), "cpc", **kwargs).learn(80)
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model", env=make_envs(n_steps=1000))
    before = encoder_updates(loaded)
    assert before > 0
    # episodes are in step: after 8 steps there are 8 rows, 7 of one episode and its final one
    loaded.learn(100, reset_num_timesteps=False)
    assert encoder_updates(loaded) > before


@pytest.mark.parametrize(("length", "has_windows"), [(8, True), (9, False)])
def test_windows_as_long_as_the_longest_episode(length: int, has_windows: bool) -> None:
    model = make_model(make_random_envs(GRID, 2), "cpc", {"batch_size": 4, "sequence_length": length})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(150)
    assert (encoder_updates(model) > 0) == has_windows
    assert any("'sequence_length': 2" in str(warning.message) for warning in caught) != has_windows


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_bonus_of_other_algorithms(algorithm: type[DQN] | type[PPO]) -> None:
    kwargs = {**NETWORKS["world_model_kwargs"], "flatten_images": False}
    callback = IntrinsicRewardCallback(encoder_updates=2, encoder_pretraining_updates=2, world_model_kwargs=kwargs)
    arguments: dict[str, Any] = {"learning_starts": 20} if algorithm is DQN else {"n_steps": 20, "n_epochs": 1}
    model = algorithm("MlpPolicy", make_envs(), batch_size=8, device="cpu", **arguments)
    before = weights(model.policy)
    with pytest.warns(UserWarning, match=WARNING) as caught:
        model.learn(80, callback)
    assert len(caught) == 1 and changed(before, weights(model.policy))
    assert callback.trainer is not None and int(callback.trainer.world_model.n_encoder_updates) == 0
