"""
LWMDQN with observations that are a dictionary of a picture and a few numbers, under MultiInputPolicy.

    python examples/dict_observations.py
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_lwm import LWMDQN


class Lamps(gym.Env):
    """
    A 5x5 field with a lamp in one of its cells; the agent walks to it. The picture shows the agent and the lamp, the numbers
    are the agent's coordinates, from 0 to 1.
    """

    MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))

    def __init__(self) -> None:
        picture, numbers = spaces.Box(0, 255, (5, 5, 3), np.uint8), spaces.Box(0.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Dict({"picture": picture, "place": numbers})
        self.action_space = spaces.Discrete(4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.agent, self.lamp = self.np_random.integers(0, 5, (2, 2))
        return self.observe(), {}

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self.agent = np.clip(self.agent + self.MOVES[action], 0, 4)
        found = bool((self.agent == self.lamp).all())
        return self.observe(), float(found), found, False, {}

    def observe(self) -> dict[str, np.ndarray]:
        picture = np.zeros((5, 5, 3), dtype=np.uint8)
        picture[(*self.lamp, 0)] = 255
        picture[(*self.agent, 2)] = 255
        return {"picture": picture, "place": (self.agent / 4).astype(np.float32)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15_000)
    options = parser.parse_args()

    gym.register("Lamps-v0", entry_point=Lamps, max_episode_steps=30)
    env = make_vec_env("Lamps-v0", n_envs=8, seed=0)
    # pictures of fewer than 36 pixels a side have an encoder of their own
    model = LWMDQN(
        "MultiInputPolicy",
        env,
        learning_rate=1e-3,
        learning_starts=1000,
        gamma=0.95,
        n_steps=3,
        tau=0.05,
        burn_in=4,
        unroll=12,
        batch_size=16,
        train_freq=1,
        intrinsic_reward_scale="lin_0.1",
        encoder_pretraining_updates=100,
        exploration_fraction=0.3,
        seed=0,
        device="cpu",
        verbose=1,
    )
    model.learn(options.steps)
    mean, deviation = evaluate_policy(model, env, n_eval_episodes=100)
    print(f"Share of 100 episodes in which the lamp was found: {mean:.2f} +- {deviation:.2f} (random moves: 0.47)")


if __name__ == "__main__":
    main()
