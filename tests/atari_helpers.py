"""Atari environments and random play, shared by the tests of AtariVecEnv."""

import hashlib
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np

from sb3_lwm import AtariVecEnv

gym.register_envs(ale_py)


def make(game: str = "BreakoutNoFrameskip-v4", n_envs: int = 1, **kwargs: Any) -> AtariVecEnv:
    return AtariVecEnv(game, n_envs, **{"seed": 0, **kwargs})


def random_actions(env: AtariVecEnv, steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(env.action_space.n, size=(steps, env.num_envs))


def play(env: AtariVecEnv, steps: int = 60) -> str:
    digest = hashlib.sha256(env.reset().tobytes())
    for action in random_actions(env, steps):
        observations, rewards, dones, _ = env.step(action)
        digest.update(observations.tobytes() + rewards.tobytes() + dones.tobytes())
    return digest.hexdigest()
