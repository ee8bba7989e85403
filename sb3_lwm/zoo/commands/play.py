"""
``python -m sb3_lwm.zoo play``: play an Atari game in a window, or with an agent, and record it.

The window is Gymnasium's (``gymnasium.utils.play``), with its keys: w, a, s, d to move, the space bar to fire or jump. The
recording (see :mod:`sb3_lwm.envs.atari.recording`) is written when the window is closed, or after ``-n`` steps.
``--agent random`` and ``--agent zoo`` need no window; the latter plays with an agent that was trained by the Zoo.
"""

import argparse
import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.utils import set_random_seed

from sb3_lwm.envs.atari.games import find_game
from sb3_lwm.envs.atari.play import check_packages, make_atari, play_game
from sb3_lwm.envs.atari.recording import record, save
from sb3_lwm.zoo.commands.option_types import integer_from, path_with_suffix, positive_number
from sb3_lwm.zoo.commands.player import add_player_options, load_player, parse_player_options

# The console draws 60 frames per second, of which a step has four
STEPS_PER_SECOND = 15
# The drivers of SDL without a display
UNSEEN = ("offscreen", "dummy")
WINDOW, RANDOM, ZOO = "window", "random", "zoo"
# A function that chooses an action, from an observation and whether it is the first of an episode
Agent = Callable[[np.ndarray, bool], int]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options
    :raises ValueError: If the game does not exist
    :raises ImportError: If a required package is not installed; the message names the extra
    """
    parser = argparse.ArgumentParser(prog="python -m sb3_lwm.zoo play", description="Play an Atari game and record it.")
    add_player_options(parser)
    parser.add_argument(
        "-o", "--output", type=path_with_suffix(".json"), required=True, help="The .json file of the recording"
    )
    parser.add_argument("--agent", choices=[WINDOW, RANDOM, ZOO], default=WINDOW, help="The player, by default the user")
    steps_help = "The number of steps of an agent; not used in a window"
    parser.add_argument("-n", "--n-timesteps", type=integer_from(1), default=1000, help=steps_help)
    parser.add_argument("--fps", type=integer_from(1), default=STEPS_PER_SECOND, help="The steps per second in the window")
    parser.add_argument("--zoom", type=positive_number, default=4.0, help="The zoom factor of the window")
    options = parse_player_options(parser, arguments)
    if options.max_episode_steps is not None:
        parser.error(f"--max-episode-steps {options.max_episode_steps}: a recording ends after --n-timesteps, leave it out.")
    if options.env_kwargs is not None:
        parser.error(f"--env-kwargs {options.env_kwargs}: a recording has the settings of --env only, leave them out.")
    options.rom = find_game(options.env).rom
    check_packages()
    return options


class SeededOnce(gym.Wrapper):
    """Seeds the first reset only, as a recording does; Gymnasium's ``play`` seeds every reset, which makes all games equal."""

    is_under_way = False

    def reset(self, *, seed: int | None = None, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=None if self.is_under_way else seed, **kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.is_under_way = True
        return self.env.step(action)


def _play_in_window(options: argparse.Namespace) -> list[int]:
    """Return the actions until the window is closed, or until Ctrl-C."""
    try:
        import pygame
    except ImportError as error:
        raise ImportError("Playing in a window needs pygame: pip install 'sb3-lwm[figures]'.") from error
    _check_display(pygame)
    with warnings.catch_warnings():
        # matplotlib is only needed for Gymnasium's plots during play, which are not used here
        warnings.filterwarnings("ignore", message=".*matplotlib is not installed")
        from gymnasium.utils.play import play
    actions: list[int] = []
    env = SeededOnce(make_atari(options.rom, render_mode="rgb_array"))
    how = {"fps": options.fps, "zoom": options.zoom, "seed": options.seed}
    try:
        play(env, callback=lambda before, after, action, *results: actions.append(int(action)), **how)
    except KeyboardInterrupt:
        print("Stopped.")
    finally:
        env.close()
    return actions


def _check_display(pygame: Any) -> None:
    """Raise a RuntimeError without a display, since SDL would draw into memory only."""
    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
        # a driver that the environment variable names was chosen by the user
        if driver not in UNSEEN or driver == os.environ.get("SDL_VIDEODRIVER"):
            return
    except pygame.error as error:
        driver = str(error)
    raise RuntimeError(
        f"There is no display for a window ({driver}): run this command on a machine with a display (or over `ssh -X`), or "
        "use an agent (--agent random, --agent zoo)."
    )


def _random_agent(options: argparse.Namespace) -> Agent:
    space = make_atari(options.rom).action_space
    space.seed(options.seed)
    return lambda observation, is_start: int(space.sample())


def _trained_agent(options: argparse.Namespace) -> Agent:
    """Return the agent of a run; raise a ValueError if it was trained on another game or on other observations."""
    model, run, deterministic = load_player(options)
    shape, n_actions = model.observation_space.shape, getattr(model.action_space, "n", None)
    meanings = make_atari(options.rom).unwrapped.get_action_meanings()  # type: ignore[attr-defined]
    if shape is None or shape[1:] != (84, 84) or n_actions != len(meanings):
        raise ValueError(
            f"The agent in {run} has learned from observations {shape} with {n_actions} actions; {options.rom} has "
            f"(channels, 84, 84) with {len(meanings)} actions: choose a run of this game (--algo, -f, --exp-id)."
        )
    set_random_seed(options.seed)
    frames: deque[np.ndarray] = deque(maxlen=shape[0])
    state: Any = None

    def choose(observation: np.ndarray, is_start: bool) -> int:
        nonlocal state
        if is_start:
            frames.extend([np.zeros_like(observation)] * shape[0])
        frames.append(observation)
        action, state = model.predict(np.stack(frames)[None], state, np.array([is_start]), deterministic)
        return int(action[0])

    return choose


def _agents_actions(options: argparse.Namespace) -> list[int]:
    choose = _random_agent(options) if options.agent == RANDOM else _trained_agent(options)
    actions: list[int] = []

    def choose_and_count(observation: np.ndarray, is_start: bool) -> int | None:
        if len(actions) == options.n_timesteps:
            return None
        actions.append(choose(observation, is_start))
        return actions[-1]

    play_game(make_atari(options.rom), options.seed, choose_and_count)
    return actions


def main() -> None:
    """Play, and write the recording."""
    options = parse()
    actions = _play_in_window(options) if options.agent == WINDOW else _agents_actions(options)
    if not actions:
        print("No step was played: the recording is not written.")
        return
    save(record(options.rom, options.seed, actions), options.output)
    print(f"Saved {options.output}, {len(actions)} steps of {options.rom}")


if __name__ == "__main__":
    main()
