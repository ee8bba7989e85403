"""
``python -m sb3_lwm.zoo watch``: show a trained agent in the terminal, with the intrinsic reward of each step.

The agent plays one episode in an environment that can be rendered as text, such as the labyrinths; then the steps are shown
one after the other, with the intrinsic reward as a bar. If the output is not a terminal, all steps are printed at once.
"""

import argparse
import time
from collections.abc import Iterator, Sequence

import gymnasium as gym
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sb3_lwm.figures import WatchedEpisode, find_spikes
from sb3_lwm.zoo.commands.option_types import integer_from, positive_number
from sb3_lwm.zoo.commands.player import add_player_options, parse_player_options
from sb3_lwm.zoo.commands.record import play_episode

# The number of characters of the longest bar
BAR = 40


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo watch", description="Show a trained agent in the terminal, with its intrinsic reward."
    )
    add_player_options(parser)
    parser.set_defaults(n_envs=1)
    parser.add_argument("-n", "--n-timesteps", type=integer_from(1), default=200, help="The maximum number of steps")
    parser.add_argument("--fps", type=positive_number, help="The number of steps per second, by default the environment's")
    options = parse_player_options(parser, arguments)
    if options.env in gym.registry:
        modes = gym.make(options.env).metadata.get("render_modes", [])
        if "ansi" not in modes:
            parser.error(
                f"--env {options.env} cannot be rendered as text (its render modes: {', '.join(modes) or 'none'}): "
                "`python -m sb3_lwm.zoo record` makes a video."
            )
    return options


def _pictures(episode: WatchedEpisode) -> Iterator[Group]:
    """Return the picture of each step: the frame, and the intrinsic reward as a bar, which is red at a spike."""
    rewards, spikes = episode.intrinsic_rewards, find_spikes(episode.intrinsic_rewards)
    highest = max((abs(float(reward)) for reward in rewards[1:]), default=0.0) or 1.0
    for step, (frame, reward) in enumerate(zip(episode.frames, rewards, strict=True)):
        # the reset has no intrinsic reward
        length = 0 if step == 0 else round(BAR * max(float(reward), 0.0) / highest)
        value = "" if step == 0 else f"{reward:+.2f} "
        line = Text(f"step {step:4d}  intrinsic reward {value:>8}")
        line.append("█" * length, style="red" if step in spikes else "blue")
        yield Group(Text(frame), line)


def _show(episode: WatchedEpisode, console: Console, fps: float) -> None:
    """Show the steps one after the other in a terminal, and print all of them elsewhere."""
    if not console.is_terminal:
        for picture in _pictures(episode):
            console.print(picture)
        return
    with Live(console=console, auto_refresh=False) as live:
        for picture in _pictures(episode):
            live.update(picture, refresh=True)
            time.sleep(1.0 / fps)


def main() -> None:
    """Play the episode, and show it."""
    options = parse()
    episode, fps = play_episode(options, "ansi")
    console = Console(highlight=False)
    _show(episode, console, fps)
    console.print(f"{options.env}: {len(episode.frames) - 1} steps, score {episode.score:g}")


if __name__ == "__main__":
    main()
