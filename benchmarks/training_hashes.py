"""
Hashes of the weights after short trainings with a fixed seed: two versions of the package that print the same hashes on one
machine learn the same weights to the last bit.

    OMP_NUM_THREADS=1 python benchmarks/training_hashes.py

The hashes depend on the processor and on the versions of PyTorch and NumPy: only hashes of one machine can be compared.
"""

import argparse
import hashlib
import time
from collections.abc import Callable

import gymnasium as gym
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from versions import VERSIONS

from sb3_lwm import LWMDQN, AtariVecEnv

STEPS = 2000


def labyrinth() -> LWMDQN:
    """Make an agent for the 3x3 labyrinth: uniform replay, hidden states from zero."""
    env = make_vec_env("POL-3x3-v0", n_envs=4, seed=0)
    return LWMDQN("MlpPolicy", env, learning_starts=600, pretraining_updates=20, seed=0, device="cpu")


def cartpole() -> LWMDQN:
    """Make an agent for CartPole: prioritised replay with stored hidden states, 3-step returns."""
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    settings = {"burn_in": 4, "unroll": 12, "n_steps": 3, "batch_size": 8, "pretraining_sequence_length": 20}
    return LWMDQN(
        "MlpPolicy",
        env,
        learning_starts=200,
        pretraining_updates=20,
        prioritized_replay=True,
        exploration_eps_base=0.4,
        intrinsic_reward_clip=10.0,
        seed=0,
        device="cpu",
        **settings,
    )


def atari() -> LWMDQN:
    """Make an agent for Montezuma's Revenge from pixels: W-MSE encoder, prioritised replay."""
    env = AtariVecEnv("montezuma_revenge", n_envs=4, seed=0)
    settings = {"burn_in": 2, "unroll": 6, "n_steps": 2, "batch_size": 4, "pretraining_sequence_length": 10}
    return LWMDQN(
        "CnnPolicy",
        env,
        buffer_size=4000,
        learning_starts=400,
        train_freq=16,
        pretraining_updates=5,
        pretraining_batch_size=4,
        encoder_pretraining_updates=5,
        prioritized_replay=True,
        policy_kwargs={"gru_hidden_size": 32},
        seed=0,
        device="cpu",
        **settings,
    )


TRAININGS: dict[str, Callable[[], LWMDQN]] = {"labyrinth": labyrinth, "cartpole": cartpole, "atari": atari}


def weights_hash(model: LWMDQN) -> str:
    """
    :param model: A trained agent
    :return: The first 16 hexadecimal digits of the SHA-256 of all weights and optimizer states
    """
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, th.Tensor):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for part in value.values():
                add(part)
        elif isinstance(value, list | tuple):
            for part in value:
                add(part)

    add(model.get_parameters())
    return digest.hexdigest()[:16]


def main() -> None:
    """Train each agent and print its hash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", nargs="+", default=list(TRAININGS), choices=list(TRAININGS))
    options = parser.parse_args()
    gym.logger.min_level = gym.logger.ERROR
    print(" ".join(f"{name} {version}" for name, version in VERSIONS.items()))
    for name in options.trainings:
        started = time.perf_counter()
        model = TRAININGS[name]().learn(STEPS)
        assert model.env is not None
        model.env.close()
        print(
            f"{name:10} {weights_hash(model)}  {model._n_updates} updates, {time.perf_counter() - started:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
