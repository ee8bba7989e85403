"""
``python -m sb3_lwm.zoo embeddings``: what encoders of images make of an Atari game (LWM, figure 3).

Each encoder (W-MSE, inverse dynamics, CPC, random) learns from the same play, without an agent. Then a trajectory that none of
them has seen is embedded by each, and t-SNE lays it out in a plane: coloured by time, numbered along the way, beside its key
frames, as PNG and SVG. The encoders stay in the output folder; a second call with the same play and settings trains nothing.
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

RANDOM = "random"
# the random agent's trajectory is the longest of the episodes that begin in so many frames of other random play
TRAJECTORY_FRAMES = 2000


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: of the command line, by default ``sys.argv``
    :return: the options
    :raises ImportError: if a package that it needs is not installed; names the extra
    :raises ValueError: if there is no such game
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo embeddings",
        description="Train encoders of images on play of an Atari game, and draw a trajectory in the embedding of each.",
    )
    parser.add_argument("--env", required=True, help="an Atari game, such as ALE/MontezumaRevenge-v5")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the figure and the encoders")
    parser.add_argument(
        "--play",
        nargs="+",
        default=[RANDOM],
        help="what the encoders learn from: `random` (default), or files that `python -m sb3_lwm.zoo play` has recorded",
    )
    parser.add_argument("--frames", type=int, default=50_000, help="of random play to learn from")
    parser.add_argument("--updates", type=int, default=250, help="of an encoder, 512 frames each (the paper: 10 000)")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES), help="which encoders")
    parser.add_argument("--trajectory", default=RANDOM, help="what is drawn: `random` (default), or a recording")
    parser.add_argument("--max-steps", type=int, default=500, help="of the trajectory, from its beginning")
    parser.add_argument("--perplexity", type=float, default=PERPLEXITY, help="of t-SNE")
    parser.add_argument("--seed", type=int, default=0, help="of the play, the encoders and t-SNE")
    options = parser.parse_args(arguments)
    for name, least in (("frames", 1), ("updates", 0), ("max_steps", 2), ("seed", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: at least {least}.")
    if not options.perplexity > 0.0:
        parser.error(f"--perplexity {options.perplexity}: more than 0.")
    if RANDOM in options.play and len(options.play) > 1:
        parser.error("--play: either `random` or recordings.")
    check_packages()
    for module in ("matplotlib.figure", "sklearn.manifold"):
        require(module)
    options.rom = find_game(options.env).rom
    return options


def read_recordings(paths: Sequence[str], rom: str) -> Play:
    """
    :param paths: of recordings, all of one game
    :param rom: the game
    :return: what they show, one after the other
    """
    return join([replay(load(Path(path), game=rom)) for path in paths])


def trajectory(options: argparse.Namespace) -> np.ndarray:
    """
    :param options: of the command line
    :return: (T, 84, 84) uint8, the frames that are drawn; a random agent's are of other play than what was learned from
    :raises ValueError: if they are too few
    """
    if options.trajectory == RANDOM:
        play = play_randomly(options.rom, TRAJECTORY_FRAMES, options.seed + 1)
        frames = play.frames[play.episodes == np.bincount(play.episodes).argmax()]
    else:
        frames = read_recordings([options.trajectory], options.rom).frames
    frames = frames[: options.max_steps]
    check_trajectory(len(frames), options.perplexity)
    return frames


def name_of_play(options: argparse.Namespace) -> str:
    """
    :param options: of the command line
    :return: that the encoders of this play are found by
    """
    if options.play == [RANDOM]:
        return f"{options.rom}_{options.frames}_{options.seed}"
    digest = hashlib.sha256()
    for path in options.play:
        digest.update(Path(path).read_bytes())
    return f"{options.rom}_recorded_{digest.hexdigest()[:12]}"


def learned_play(options: argparse.Namespace) -> Play:
    """
    :param options: of the command line
    :return: what the encoders learn from
    """
    if options.play == [RANDOM]:
        return play_randomly(options.rom, options.frames, options.seed)
    return read_recordings(options.play, options.rom)


def main() -> None:
    """Train the encoders that are not there yet, and draw the figure."""
    options = parse()
    # before any hour of training, since it may be too short
    frames = trajectory(options)
    # played when the first encoder asks for it, if one does
    get_play = functools.cache(lambda: learned_play(options))
    name, layouts = name_of_play(options), {}
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
