"""Small environments and networks that the tests share."""

import multiprocessing
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

# The processes of a SubprocVecEnv are forked from a server: let it import torch once, instead of each of them
multiprocessing.set_forkserver_preload(["stable_baselines3.common.env_util"])

REPOSITORY = Path(__file__).resolve().parents[1]
BENCHMARKS = REPOSITORY / "benchmarks"

# Networks that learn nothing but run fast
NETWORKS: dict[str, Any] = {
    "net_arch": [8],
    "gru_hidden_size": 16,
    "world_model_kwargs": {
        "predictor_kwargs": {"input_size": 8, "gru_hidden_size": 12, "head_size": 8},
        "encoder_objective_kwargs": {"batch_size": 8},
    },
}

# Settings under which learn(200) goes through warm-up, pretraining and updates
SHORT: dict[str, Any] = {
    "learning_starts": 60,
    "buffer_size": 1000,
    "batch_size": 4,
    "burn_in": 2,
    "unroll": 6,
    "pretraining_updates": 3,
    "encoder_pretraining_updates": 2,
    "pretraining_batch_size": 4,
    "pretraining_sequence_length": 10,
    "policy_kwargs": NETWORKS,
    "device": "cpu",
}


def make_labyrinths(n_envs: int = 2, seed: int = 0, **kwargs: Any) -> VecEnv:
    """
    :param n_envs: The number of labyrinths
    :param seed: The seed of the first labyrinth
    :param kwargs: Keyword arguments of :func:`make_vec_env`
    :return: 2x2 labyrinths, whose episodes are short
    """
    return make_vec_env("sb3_lwm.envs:POL-v0", n_envs, seed=seed, env_kwargs={"size": 2}, **kwargs)


class RandomEnv(gym.Env[Any, Any]):
    """
    Random observations of any space, which ``reset(seed=...)`` repeats. An episode has ``EPISODE_LENGTH`` steps; every other
    one ends by a time-out, the rest by a termination. Action 0 has the reward 1.

    :param observation_space: Any observation space
    :param action_space: The action space, by default three actions
    """

    EPISODE_LENGTH = 7

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space | None = None) -> None:
        # a copy, because a space carries the random generator that this environment draws from
        self.observation_space = deepcopy(observation_space)
        self.action_space = spaces.Discrete(3) if action_space is None else action_space
        self.steps = 0
        self.episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        self.episodes += 1
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        is_over = self.steps == self.EPISODE_LENGTH
        is_timeout = is_over and self.episodes % 2 == 0
        return self.observation_space.sample(), float(np.all(action == 0)), is_over and not is_timeout, is_timeout, {}


VECTOR = spaces.Box(-1.0, 1.0, (3,))


def make_random_envs(
    observation_space: spaces.Space = VECTOR,
    n_envs: int = 1,
    vec_env_cls: type[DummyVecEnv] | type[SubprocVecEnv] = DummyVecEnv,
    **kwargs: Any,
) -> VecEnv:
    """
    :param observation_space: Any observation space
    :param n_envs: The number of environments
    :param vec_env_cls: The class of the vectorised environment
    :param kwargs: Keyword arguments of :func:`make_vec_env`
    :return: Environments of :class:`RandomEnv`, with seeds from 0
    """
    env_kwargs = {"observation_space": observation_space}
    return make_vec_env(RandomEnv, n_envs, seed=0, env_kwargs=env_kwargs, vec_env_cls=vec_env_cls, **kwargs)


def weights(module: th.nn.Module) -> dict[str, th.Tensor]:
    """
    :param module: A network
    :return: A copy of its parameters and buffers
    """
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, th.Tensor], after: dict[str, th.Tensor]) -> set[str]:
    """
    :param before: The :func:`weights` of a network
    :param after: Its :func:`weights` at a later time
    :return: The names of the weights that are not the same to the last bit
    """
    assert before.keys() == after.keys()
    return {name for name in before if not th.equal(before[name], after[name])}
