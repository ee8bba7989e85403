"""Atari environments and random play, shared by the tests of AtariVecEnv."""

import hashlib
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from helpers import BENCHMARKS

from sb3_lwm import AtariVecEnv

gym.register_envs(ale_py)

# The recording that ships
FIRST_ROOM = BENCHMARKS / "recordings" / "montezuma_first_room.json"

# Settings of an agent under which learn(100) goes through warm-up, pretraining and updates
SHORT_ATARI: dict[str, Any] = {
    **{"buffer_size": 400, "learning_starts": 24, "batch_size": 2, "burn_in": 2, "unroll": 4, "train_freq": 2},
    **{"encoder_pretraining_updates": 1, "pretraining_updates": 1, "pretraining_batch_size": 2},
    **{"pretraining_sequence_length": 4, "exploration_initial_eps": 0.5, "exploration_final_eps": 0.5},
    "policy_kwargs": {
        "features_extractor_kwargs": {"features_dim": 16},
        "gru_hidden_size": 8,
        "world_model_kwargs": {"image_latent_size": 4, "encoder_objective_kwargs": {"batch_size": 4}},
    },
    "device": "cpu",
}


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
