"""
``python -m sb3_lwm.zoo play``: play an Atari game in a window, or let an agent play it, and keep a recording.

The window is Gymnasium's own (``gymnasium.utils.play``), with its keys: w, a, s, d to move, the space bar to fire or jump. The
recording (see :mod:`sb3_lwm.envs.atari.recording`) is written when the window is closed, or after ``-n`` steps.
``--agent random`` and ``--agent zoo`` need no window; the latter plays with an agent that the Zoo has trained.
"""

import argparse
import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.utils import set_random_seed

from sb3_lwm.envs.atari.games import find_game
from sb3_lwm.envs.atari.play import check_packages, make_atari, play_game
from sb3_lwm.envs.atari.recording import record, save
from sb3_lwm.zoo.evaluate import add_player_options, check_player_options, load_player

# of a step: the console draws 60 frames a second, a step has four
STEPS_PER_SECOND = 15
# drivers of SDL that show nothing
UNSEEN = ("offscreen", "dummy")
WINDOW, RANDOM, ZOO = "window", "random", "zoo"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: of the command line, by default ``sys.argv``
    :return: the options
    :raises ValueError: if there is no such game
    :raises ImportError: if a package that it needs is not installed; names the extra
    """
    parser = argparse.ArgumentParser(prog="python -m sb3_lwm.zoo play", description="Play an Atari game and record it.")
    add_player_options(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, help="file for the recording, .json")
    parser.add_argument("--agent", choices=[WINDOW, RANDOM, ZOO], default=WINDOW, help="who plays; default: you")
    parser.add_argument("-n", "--n-timesteps", type=int, default=1000, help="steps of an agent; in a window you end it")
    parser.add_argument("--fps", type=int, default=STEPS_PER_SECOND, help="steps a second in the window")
    parser.add_argument("--zoom", type=float, default=4.0, help="size of the window")
    options = parser.parse_args(arguments)
    check_player_options(parser, options)
    for name in ("n_timesteps", "fps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: at least 1.")
    if options.max_episode_steps is not None:
        parser.error(f"--max-episode-steps {options.max_episode_steps}: a recording ends after --n-timesteps, leave it out.")
    if options.env_kwargs is not None:
        parser.error(f"--env-kwargs {options.env_kwargs}: a recording is of the game as --env names it, leave them out.")
    if options.output.suffix != ".json":
        parser.error(f"--output {options.output}: a recording is a .json file.")
    options.rom = find_game(options.env).rom
    check_packages()
    return options


class SeededOnce(gym.Wrapper):
    """Gymnasium's ``play`` seeds every reset, and every game would begin alike; a recording seeds the first only."""

    is_under_way = False

    def reset(self, *, seed: int | None = None, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """:return: as the environment's"""
        return self.env.reset(seed=None if self.is_under_way else seed, **kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """:return: as the environment's"""
        self.is_under_way = True
        return self.env.step(action)


def play_in_window(options: argparse.Namespace) -> list[int]:
    """
    :param options: of the command line
    :return: the actions that were taken until the window was closed, or until Ctrl-C
    :raises ImportError: if pygame is not installed; names the extra
    :raises RuntimeError: if there is no display
    """
    try:
        import pygame
    except ImportError as error:
        raise ImportError("Playing in a window needs pygame: pip install 'sb3-lwm[figures]'.") from error
    check_display(pygame)
    with warnings.catch_warnings():
        # of plots in a window of their own, which are not used
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


def check_display(pygame: Any) -> None:
    """
    :param pygame: the package
    :raises RuntimeError: if there is no display; SDL would draw where nobody sees it
    """
    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
        # who names a driver wants it
        if driver not in UNSEEN or driver == os.environ.get("SDL_VIDEODRIVER"):
            return
    except pygame.error as error:
        driver = str(error)
    raise RuntimeError(
        f"There is no display for a window ({driver}): run this where there is one (or over `ssh -X`), or let an agent play "
        "(--agent random, --agent zoo)."
    )


def random_agent(options: argparse.Namespace) -> Callable[[np.ndarray, bool], int]:
    """
    :param options: of the command line
    :return: that chooses uniformly
    """
    space = make_atari(options.rom).action_space
    space.seed(options.seed)
    return lambda observation, is_start: int(space.sample())


def trained_agent(options: argparse.Namespace) -> Callable[[np.ndarray, bool], int]:
    """
    :param options: of the command line
    :return: that chooses as the agent of a run does
    :raises ValueError: if it has learned another game, or from other observations
    """
    model, run, deterministic = load_player(options)
    shape, n_actions = model.observation_space.shape, getattr(model.action_space, "n", None)
    meanings = make_atari(options.rom).unwrapped.get_action_meanings()  # type: ignore[attr-defined]
    if shape is None or shape[1:] != (84, 84) or n_actions != len(meanings):
        raise ValueError(
            f"The agent in {run} has learned from observations {shape} with {n_actions} actions; {options.rom} is shown to it "
            f"as (channels, 84, 84) with {len(meanings)}: choose a run of this game (--algo, -f, --exp-id)."
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


def agents_actions(options: argparse.Namespace) -> list[int]:
    """
    :param options: of the command line
    :return: the actions of an agent
    """
    choose = random_agent(options) if options.agent == RANDOM else trained_agent(options)
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
    actions = play_in_window(options) if options.agent == WINDOW else agents_actions(options)
    if not actions:
        print("Nothing was played, so nothing is recorded.")
        return
    save(record(options.rom, options.seed, actions), options.output)
    print(f"Saved {options.output}, {len(actions)} steps of {options.rom}")


if __name__ == "__main__":
    main()
