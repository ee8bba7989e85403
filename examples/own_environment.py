"""
LWMDQN on an environment of one's own: a T-maze, where the agent sees at the start to which side it has to turn in the end.

    python examples/own_environment.py
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_lwm import LWMDQN


class TMaze(gym.Env):
    """
    A corridor with a junction at its end. The sign at the start tells the side of the goal; after the first step it is out of
    sight. The observation has four flags: sign to the left, sign to the right, corridor, junction.
    """

    def __init__(self, length: int = 5) -> None:
        self.length = length
        self.observation_space = spaces.MultiBinary(4)
        # forward, left, right
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        self.side = int(self.np_random.integers(1, 3))
        return self.observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        at_junction = self.place == self.length
        if at_junction and action > 0:
            return self.observe(), float(action == self.side), True, False, {}
        self.place = min(self.place + int(action == 0), self.length)
        return self.observe(), -0.01, False, False, {}

    def observe(self) -> np.ndarray:
        at_start, at_junction = self.place == 0, self.place == self.length
        flags = [at_start and self.side == 1, at_start and self.side == 2, not at_junction, at_junction]
        return np.array(flags, dtype=np.int8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    check_env(TMaze())
    # a limit for episodes, as every environment needs in which an agent can stand still
    gym.register("TMaze-v0", entry_point=TMaze, max_episode_steps=50)
    env = make_vec_env("TMaze-v0", n_envs=8, seed=0)
    model = LWMDQN(
        "MlpPolicy",
        env,
        learning_rate=1e-3,
        learning_starts=1000,
        gamma=0.97,
        n_steps=3,
        tau=0.05,
        # sequences that are longer than an episode, so that the sign and the junction lie in one sequence
        burn_in=0,
        unroll=16,
        # the goal is worth 1: exploring must not be worth more for long
        intrinsic_reward_scale="lin_0.1",
        exploration_fraction=0.3,
        seed=0,
        device=options.device,
        verbose=1,
    )
    model.learn(options.steps)
    mean, deviation = evaluate_policy(model, env, n_eval_episodes=100)
    print(f"Mean return of 100 episodes: {mean:.2f} +- {deviation:.2f} (an agent that forgets the sign gets 0.45)")


if __name__ == "__main__":
    main()
