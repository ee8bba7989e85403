"""
All algorithms that support the intrinsic reward of the latent world model, trained with it and without it::

    OMP_NUM_THREADS=1 python benchmarks/bonus_algorithms.py

Each algorithm has its default settings and trains on a small task, so that the table shows which algorithms work and the cost
of the reward, but no learning results. ``--algorithms`` selects some of them.
"""

import argparse
import statistics
import time

import torch as th
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from tqdm import tqdm

from sb3_lwm import IntrinsicRewardCallback

# Algorithm, policy, environment
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], str, str]] = {
    "A2C": (A2C, "MlpPolicy", "CartPole-v1"),
    "PPO": (PPO, "MlpPolicy", "CartPole-v1"),
    "TRPO": (TRPO, "MlpPolicy", "CartPole-v1"),
    "MaskablePPO": (MaskablePPO, "MlpPolicy", "InvalidActionEnvDiscrete"),
    "RecurrentPPO": (RecurrentPPO, "MlpLstmPolicy", "CartPole-v1"),
    "DQN": (DQN, "MlpPolicy", "CartPole-v1"),
    "QRDQN": (QRDQN, "MlpPolicy", "CartPole-v1"),
    "SAC": (SAC, "MlpPolicy", "Pendulum-v1"),
    "TD3": (TD3, "MlpPolicy", "Pendulum-v1"),
    "DDPG": (DDPG, "MlpPolicy", "Pendulum-v1"),
    "TQC": (TQC, "MlpPolicy", "Pendulum-v1"),
    "CrossQ": (CrossQ, "MlpPolicy", "Pendulum-v1"),
}


def train(name: str, steps: int, update_interval: int, with_bonus: bool) -> tuple[float, int]:
    """
    :param name: The name of an algorithm
    :param steps: The number of steps
    :param update_interval: The number of sampled batches between two updates of the world model
    :param with_bonus: Whether to add the intrinsic reward
    :return: The seconds of CPU time of the training, and the number of updates of the world model
    """
    algorithm, policy, env_id = ALGORITHMS[name]
    env = make_vec_env(InvalidActionEnvDiscrete if env_id == "InvalidActionEnvDiscrete" else env_id, n_envs=4, seed=0)
    model = algorithm(policy, env, seed=0, device="cpu")
    callback = IntrinsicRewardCallback(update_interval=update_interval) if with_bonus else None
    start = time.process_time()
    model.learn(steps, callback=callback)
    seconds = time.process_time() - start
    env.close()
    n_updates = 0 if callback is None or callback.trainer is None else int(callback.trainer.world_model.n_updates)
    return seconds, n_updates


def main() -> None:
    """Train each algorithm in turn and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=list(ALGORITHMS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--update-interval", type=int, default=1, help="Of the batches of off-policy algorithms, see the callback"
    )
    parser.add_argument("--rounds", type=int, default=3, help="The number of trainings of each, whose median is printed")
    options = parser.parse_args()
    th.set_num_threads(1)
    lines = []
    for name in tqdm(options.algorithms, unit="algorithm", disable=None):
        # alternately, so that both run in the same state of the machine
        arguments = (name, options.steps, options.update_interval)
        pairs = [[train(*arguments, with_bonus) for with_bonus in (False, True)] for _ in range(options.rounds)]
        alone, bonus = (statistics.median(pair[number][0] for pair in pairs) for number in (0, 1))
        n_updates = pairs[-1][1][1]
        lines.append(f"| {name} | {ALGORITHMS[name][2]} | {n_updates} | {alone:.1f} | {bonus:.1f} | {bonus / alone:.2f} |")
    print("| algorithm | environment | updates of the world model | CPU seconds | with the intrinsic reward | ratio |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
