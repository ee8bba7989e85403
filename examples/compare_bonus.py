"""
PPO with the intrinsic reward of the latent world model and without it, on a MiniGrid task (extra `minigrid`).

    python examples/compare_bonus.py                # about five minutes each
"""

import argparse

import minigrid  # noqa: F401  registers MiniGrid's environments
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_lwm import IntrinsicRewardCallback
from sb3_lwm.envs import BinaryCells

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--env", default="MiniGrid-MultiRoom-N4-S5-v0")
parser.add_argument("--steps", type=int, default=700_000)
options = parser.parse_args()

for callback in (None, IntrinsicRewardCallback(intrinsic_reward_scale="lin_0.04", intrinsic_reward_fraction=0.8)):
    env = make_vec_env(options.env, n_envs=16, seed=0, wrapper_class=BinaryCells)
    model = PPO("MlpPolicy", env, n_steps=128, batch_size=256, n_epochs=4, ent_coef=0.01, seed=0, device="cpu")
    model.learn(options.steps, callback=callback, progress_bar=True)
    returns = [episode["r"] for episode in model.ep_info_buffer or ()]
    print(
        "PPO" if callback is None else "PPO with the intrinsic reward", f"mean return of 100 episodes: {np.mean(returns):.2f}"
    )
