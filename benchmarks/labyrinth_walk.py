"""
One episode of a trained agent in a labyrinth: the map, the cells of its path, and the intrinsic reward at each step::

    python benchmarks/labyrinth_walk.py --env POL-5x5-v0 -f logs --output benchmarks/results/labyrinth_walk.json

The options are those of ``python -m sb3_lwm.zoo evaluate``; ``benchmarks/plot.py`` draws the file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from labyrinth_bounds import TIME_LIMIT
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lwm.common.files import whole_file
from sb3_lwm.envs.labyrinth import PartiallyObservableLabyrinthEnv
from sb3_lwm.figures import watch_episode
from sb3_lwm.zoo import register
from sb3_lwm.zoo.commands.player import add_player_options, parse_player_options
from sb3_lwm.zoo.commands.record import load_policy


class Walk(gym.Wrapper[Any, Any, Any, Any]):
    """Records the path of the episode."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.labyrinth = env.unwrapped
        assert isinstance(self.labyrinth, PartiallyObservableLabyrinthEnv)
        self.is_over = False
        self.passages = np.zeros((0, 0, 4), dtype=bool)
        self.path: list[tuple[int, int]] = []

    def reset(self, **kwargs: Any) -> Any:
        """:return: The result of the labyrinth's reset"""
        result = self.env.reset(**kwargs)
        if not self.is_over:
            # a VecEnv resets the environment again after the end
            self.passages, self.path = self.labyrinth.passages, [self.labyrinth.position]
        return result

    def step(self, action: Any) -> Any:
        """:return: The result of the labyrinth's step"""
        result = self.env.step(action)
        self.path.append(self.labyrinth.position)
        self.is_over = result[2] or result[3]
        return result


def main() -> None:
    """Play the episode, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    register()
    add_player_options(parser)
    parser.add_argument("--output", type=Path, required=True, help="The JSON file to write")
    options = parse_player_options(parser, None)
    if options.max_episode_steps is not None:
        parser.error(f"--max-episode-steps {options.max_episode_steps}: this option is for Atari games only, leave it out.")
    if not options.env.startswith("POL-"):
        parser.error(f"--env {options.env}: it must be a labyrinth, such as POL-5x5-v0.")
    policy, _ = load_policy(options)
    set_random_seed(options.seed)
    walk = Walk(gym.make(options.env, render_mode="ansi", **(options.env_kwargs or {})))
    env = DummyVecEnv([lambda: Monitor(gym.wrappers.RenderCollection(walk, reset_clean=False))])
    env.seed(options.seed)
    episode = watch_episode(policy, env, TIME_LIMIT, policy.evaluation_eps)
    data = {
        "env": options.env,
        "passages": walk.passages.astype(int).tolist(),
        "path": walk.path,
        # the reset has no intrinsic reward
        "intrinsic_rewards": [None, *episode.intrinsic_rewards[1:].round(4).tolist()],
    }
    with whole_file(options.output) as temporary:
        temporary.write_text(json.dumps(data) + "\n", encoding="utf-8")
    print(f"Saved {options.output}, {len(walk.path) - 1} steps")


if __name__ == "__main__":
    main()
