"""
PPO with an intrinsic reward of RLeXplore on a MiniGrid task, for comparisons::

    python3 -m venv rllte && rllte/bin/pip install rllte-core stable-baselines3 minigrid
    rllte/bin/python benchmarks/rlexplore_ppo.py --reward RND --env MiniGrid-MultiRoom-N4-S5-v0 -f runs

``rllte-core`` requires an old version of Gymnasium, and therefore a separate environment, without this package. PPO has the
settings of ``hyperparams/minigrid-ppo.yml`` and the same observations. The reward is added as in RLeXplore's example for
Stable-Baselines3: to advantages and returns, at the end of each rollout. ``sparse_tasks.py`` starts this script.
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import minigrid  # noqa: F401
import numpy as np
import torch as th
import yaml
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

ROOT = Path(__file__).parents[1]


def load_minigrid_module() -> Any:
    """:return: The module ``sb3_lwm.envs.minigrid``, from its file, since the package cannot be imported here"""
    spec = importlib.util.spec_from_file_location("binary_cells", ROOT / "sb3_lwm" / "envs" / "minigrid.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class RealCells(gym.ObservationWrapper):
    """
    Observations of flags as real numbers, which RLeXplore requires.

    :param env: An environment with observations of flags
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0.0, 1.0, env.observation_space.shape, np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """
        :param observation: The flags, (N,) int8
        :return: The numbers, (N,) float32
        """
        return observation.astype(np.float32)


class RLeXploreCallback(BaseCallback):
    """
    Adds an intrinsic reward of RLeXplore to the advantages and returns of each rollout.

    :param reward: The intrinsic reward
    """

    def __init__(self, reward: Any) -> None:
        super().__init__()
        self.reward = reward
        self._next_observations: list[np.ndarray] = []
        self._dones: list[np.ndarray] = []

    def _on_rollout_start(self) -> None:
        self._next_observations, self._dones = [], []

    def _on_step(self) -> bool:
        next_observations, dones = self.locals["new_obs"].copy(), self.locals["dones"]
        for env in np.flatnonzero(dones):
            next_observations[env] = self.locals["infos"][env]["terminal_observation"]
        self._next_observations.append(next_observations)
        self._dones.append(dones)
        actions, rewards = (th.as_tensor(self.locals[name]) for name in ("actions", "rewards"))
        flags = th.as_tensor(dones).float()
        self.reward.watch(self.locals["obs_tensor"], actions, rewards, flags, flags, th.as_tensor(next_observations))
        return True

    def _on_rollout_end(self) -> None:
        buffer: Any = self.model.rollout_buffer
        dones = th.as_tensor(np.stack(self._dones)).float()
        samples = {
            "observations": th.as_tensor(buffer.observations),
            "actions": th.as_tensor(buffer.actions),
            "rewards": th.as_tensor(buffer.rewards),
            "terminateds": dones,
            "truncateds": th.zeros_like(dones),
            "next_observations": th.as_tensor(np.stack(self._next_observations)),
        }
        rewards = self.reward.compute(samples).cpu().numpy()
        buffer.advantages += rewards
        buffer.returns += rewards


def parse() -> argparse.Namespace:
    """:return: The options of the command line"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", required=True, choices=["RND", "ICM", "E3B", "RE3"])
    parser.add_argument("--beta", type=float, default=0.05, help="The factor of the intrinsic reward")
    parser.add_argument("--env", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", "--steps", type=int, default=1_500_000)
    parser.add_argument("-f", "--folder", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Train, and write the episodes of each environment to the folder, as in a run of the Zoo."""
    options = parse()
    th.set_num_threads(1)
    module = load_minigrid_module()
    module.register_rooms()
    settings = yaml.safe_load((ROOT / "hyperparams" / "minigrid-ppo.yml").read_text(encoding="utf-8"))["default"]
    ours = ("env_wrapper", "callback", "n_timesteps", "n_envs", "policy")
    env = make_vec_env(
        options.env,
        settings["n_envs"],
        seed=options.seed,
        monitor_dir=str(options.folder / "ppo" / f"{options.env}_1"),
        wrapper_class=lambda env: RealCells(module.BinaryCells(env)),
    )
    import rllte.xplore.reward as rewards

    # without the running mean of observations, which would take 2560 further steps in each environment that no CSV counts
    reward = getattr(rewards, options.reward)(env, device="cpu", beta=options.beta, obs_norm_type="none")
    others = {name: value for name, value in settings.items() if name not in ours}
    model = PPO(settings["policy"], env, seed=options.seed, device="cpu", **others)
    model.learn(options.steps, callback=RLeXploreCallback(reward))


if __name__ == "__main__":
    main()
