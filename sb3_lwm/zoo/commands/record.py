"""
``python -m sb3_lwm.zoo record``: one episode of a trained agent with its intrinsic reward, as a video or as a figure.

The video (MP4, GIF) shows the frames, and below them the curve of the intrinsic reward up to each frame, with marked spikes.
The figure (PNG, SVG) has the whole curve, and the frames at the spikes. The agent plays in the environment of its training,
with its wrappers and settings; an episode is a whole game, with all its lives.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm.figures import WatchedEpisode, draw_novelty, save_figure, watch_episode, write_video
from sb3_lwm.figures.video import SUFFIXES as VIDEOS
from sb3_lwm.figures.video import check_video_packages
from sb3_lwm.lwm_dqn.policies import LWMPolicy
from sb3_lwm.zoo.commands.option_types import integer_from, path_with_suffix, positive_number
from sb3_lwm.zoo.commands.player import add_player_options, load_player, make_env, parse_player_options

FIGURES = (".png", ".svg")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options
    :raises ImportError: If a package that the output needs is not installed; the message names the extra
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo record", description="Record an episode of a trained agent with its intrinsic reward."
    )
    add_player_options(parser)
    parser.set_defaults(n_envs=1)
    parser.add_argument("-n", "--n-timesteps", type=integer_from(1), default=1000, help="The maximum number of steps")
    parser.add_argument("--fps", type=positive_number, help="The frames per second of a video, by default the environment's")
    parser.add_argument(
        "-o",
        "--output",
        type=path_with_suffix(*VIDEOS, *FIGURES),
        nargs="+",
        required=True,
        help="The files: .mp4 or .gif for a video, .png or .svg for a figure",
    )
    options = parse_player_options(parser, arguments)
    for path in options.output:
        check_video_packages(path.suffix.lower())
    return options


def load_policy(options: argparse.Namespace) -> tuple[LWMPolicy, str]:
    """
    :param options: The options of the command line
    :return: The policy of the trained agent, and the folder of its run
    :raises ValueError: If the agent has no world model
    """
    model, run, _ = load_player(options)
    policy = model.policy
    if not isinstance(policy, LWMPolicy) or policy.world_model is None:
        raise ValueError(
            f"The agent in {run} ({options.algo}) has no world model, and so no intrinsic reward to draw: choose a run of "
            "lwm_dqn that was trained with one (--exp-id), or record this one with `python -m sb3_lwm.zoo record_video`."
        )
    return policy, run


def _write(episode: WatchedEpisode, path: Path, title: str, fps: float) -> None:
    """Write a video or a figure, depending on the suffix of the path."""
    if path.suffix.lower() in VIDEOS:
        write_video(episode, path, fps, title)
    else:
        save_figure(draw_novelty(episode.intrinsic_rewards, episode.frames, title), path)
    print(f"Saved {path}")


def _frames_per_second(env: VecEnv) -> float:
    """Return the number in the environment's metadata, or 30 as in Gymnasium's videos."""
    return float(env.get_attr("metadata")[0].get("render_fps") or 30)


def play_episode(options: argparse.Namespace, render_mode: str) -> tuple[WatchedEpisode, float]:
    """
    :param options: The options of the command line
    :param render_mode: The render mode, ``"rgb_array"`` or ``"ansi"``
    :return: An episode of the trained agent, and the number of frames per second
    """
    policy, run = load_policy(options)
    set_random_seed(options.seed)
    env = make_env(options, run, render_mode)
    try:
        episode = watch_episode(policy, env, options.n_timesteps, policy.evaluation_eps)
        return episode, options.fps or _frames_per_second(env)
    finally:
        env.close()


def main() -> None:
    """Play the episode and write the files."""
    options = parse()
    episode, fps = play_episode(options, "rgb_array")
    steps = len(episode.frames) - 1
    print(f"{options.env}: {steps} steps, score {episode.score:g}")
    for path in options.output:
        _write(episode, path, f"{options.env}, {steps} steps, score {episode.score:g}", fps)


if __name__ == "__main__":
    main()
