"""
``python -m sb3_lwm.zoo embeddings``: a trajectory of an Atari game in the embeddings of several encoders (LWM, figure 3).

Each encoder (W-MSE, inverse dynamics, CPC, random) is trained on the same episodes, without an agent. Then each encoder
embeds a trajectory outside its training data, and t-SNE projects it to a plane. The figure (PNG and SVG) shows it coloured by
time and numbered, beside its key frames. The encoders are saved in the output folder, so that a second call with the same
episodes and settings trains none.
"""

import argparse
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.envs.atari.games import find_game
from sb3_lwm.envs.atari.play import check_packages, join, play_randomly
from sb3_lwm.envs.atari.recording import load, replay
from sb3_lwm.figures import save_figure
from sb3_lwm.figures.embeddings import PERPLEXITY, check_trajectory, draw_embeddings, lay_out
from sb3_lwm.figures.encoder_training import cached_encoder, embed
from sb3_lwm.figures.requirements import require
from sb3_lwm.world_model.objectives import OBJECTIVES
from sb3_lwm.zoo.commands.option_types import integer_from, positive_number

RANDOM = "random"
# The number of frames of a separate random play, whose longest episode is the trajectory of the random agent
TRAJECTORY_FRAMES = 2000


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options
    :raises ImportError: If a required package is not installed; the message names the extra
    :raises ValueError: If the game does not exist
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo embeddings",
        description="Train encoders of images on episodes of an Atari game, and draw a trajectory in the embedding of each.",
    )
    parser.add_argument("--env", required=True, help="The Atari game, such as ALE/MontezumaRevenge-v5")
    parser.add_argument("-o", "--output", type=Path, required=True, help="The folder for the figure and the encoders")
    parser.add_argument(
        "--play",
        nargs="+",
        default=[RANDOM],
        help="The episodes of the training: `random` (default), or files that `sb3_lwm.zoo play` has recorded",
    )
    parser.add_argument("--frames", type=integer_from(1), default=50_000, help="The number of frames of random play")
    parser.add_argument(
        "--updates", type=integer_from(0), default=250, help="The updates of an encoder, 512 frames each (the paper: 10 000)"
    )
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES), help="The encoders to train")
    parser.add_argument("--trajectory", default=RANDOM, help="The episodes to draw: `random` (default), or a recording")
    parser.add_argument("--max-steps", type=integer_from(2), default=500, help="The maximum length of the trajectory")
    parser.add_argument("--perplexity", type=positive_number, default=PERPLEXITY, help="The perplexity of t-SNE")
    parser.add_argument("--seed", type=integer_from(0), default=0, help="The seed of the games, the encoders and t-SNE")
    options = parser.parse_args(arguments)
    if RANDOM in options.play and len(options.play) > 1:
        parser.error("--play: either `random` or recordings.")
    check_packages()
    for module in ("matplotlib.figure", "sklearn.manifold"):
        require(module)
    options.rom = find_game(options.env).rom
    return options


def _read_recordings(paths: Sequence[str], rom: str) -> Play:
    return join([replay(load(Path(path), game=rom)) for path in paths])


def _trajectory(options: argparse.Namespace) -> np.ndarray:
    """Return the frames to draw, (T, 84, 84) uint8; those of a random agent are not part of the training data."""
    if options.trajectory == RANDOM:
        play = play_randomly(options.rom, TRAJECTORY_FRAMES, options.seed + 1)
        frames = play.frames[play.episodes == np.bincount(play.episodes).argmax()]
    else:
        frames = _read_recordings([options.trajectory], options.rom).frames
    frames = frames[: options.max_steps]
    check_trajectory(len(frames), options.perplexity)
    return frames


def _name_of_play(options: argparse.Namespace) -> str:
    """Return the part of the encoders' file names that identifies their training data."""
    if options.play == [RANDOM]:
        return f"{options.rom}_{options.frames}_{options.seed}"
    digest = hashlib.sha256()
    for path in options.play:
        digest.update(Path(path).read_bytes())
    return f"{options.rom}_recorded_{digest.hexdigest()[:12]}"


def _learned_play(options: argparse.Namespace) -> Play:
    if options.play == [RANDOM]:
        return play_randomly(options.rom, options.frames, options.seed)
    return _read_recordings(options.play, options.rom)


def main() -> None:
    """Train the missing encoders, and draw the figure."""
    options = parse()
    # before the training, since the trajectory may be too short
    frames = _trajectory(options)
    # the episodes are only played if an encoder is trained
    get_play = functools.cache(lambda: _learned_play(options))
    name, layouts = _name_of_play(options), {}
    for objective in options.objectives:
        encoder, _ = cached_encoder(options.output, name, get_play, objective, options.seed, options.updates)
        layouts[objective] = lay_out(embed(encoder, frames), options.seed, options.perplexity)
    title = f"{options.env}: {len(frames)} steps ({Path(options.trajectory).stem}), encoders after {options.updates} updates"
    figure = draw_embeddings(layouts, frames, title)
    for suffix in (".png", ".svg"):
        path = options.output / f"{options.rom}_embeddings{suffix}"
        save_figure(figure, path)
        print(f"Saved {path}")


if __name__ == "__main__":
    main()
