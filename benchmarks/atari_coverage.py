"""
Coverage of Atari games by agents that learn from pixels, with the intrinsic reward and without it::

    OMP_NUM_THREADS=1 python benchmarks/atari_coverage.py --jobs 2 --output benchmarks/results/atari_coverage.csv \
        --figure benchmarks/results/atari_coverage.png --picture benchmarks/results/montezuma_cells.png

Coverage is the number of distinct cells of 8 x 8 pixels in the rooms of a game that the player has visited in all games of a
training together, read from the console's memory. Each training is one command of the RL Zoo in a separate folder in
``--runs``. A finished training is not repeated; an interrupted one is resumed if its agent is an LWMDQN, else started again.
The CSV has a row for each 10 000 steps of a training: cells and rooms so far, in Montezuma's Revenge also keys taken and doors
opened, and the mean score of the games that have ended. Rows of other trainings in the CSV are kept, so that ``--games``,
``--agents`` and ``--seeds`` can make the table in parts. ``--figure`` draws the curves of all seeds in the CSV, ``--picture``
the cells of the first room of Montezuma's Revenge that the trainings in ``--runs`` have visited.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from trainings import HERE, KEY, SETTINGS, Agent, Training, add_options, add_to, folder_of, read_episodes, train_all

from sb3_lwm import AtariVecEnv
from sb3_lwm.envs.atari.coverage import CELL_SIZE, FILE_NAME
from sb3_lwm.figures import save_figure

INTERVAL = 10_000
# The number of steps of a training in each game
GAMES = {"MontezumaRevenge": 200_000, "Venture": 200_000, "PrivateEye": 200_000, "Freeway": 200_000}
LWM, PPO, DQN = SETTINGS / "atari-medium.yml", SETTINGS / "atari-medium-ppo.yml", HERE / "atari_dqn.yml"
AGENTS = {
    "lwm_dqn": Agent("lwm_dqn", LWM),
    "lwm_dqn, scale 0": Agent("lwm_dqn", LWM, ("intrinsic_reward_scale:0.0",)),
    "lwm_dqn, random encoder": Agent("lwm_dqn", LWM, ("encoder_objective:'random'",)),
    "ppo + bonus": Agent("ppo", PPO),
    "ppo": Agent("ppo", PPO, ("callback:None",)),
    "dqn": Agent("dqn", DQN),
    # a DQN that never starts learning
    "random play": Agent("dqn", DQN, ("learning_starts:1000000000", "buffer_size:3200", "n_envs:32")),
}
FOUND = {"cells": "cell", "keys": "key", "doors": "door"}
ROOM_GAME, FIRST_ROOM = "MontezumaRevenge", 1


def env_id(game: str) -> str:
    """
    :param game: The name of a game
    :return: The id of its environment
    """
    return f"{game}NoFrameskip-v4"


def make_trainings(options: argparse.Namespace) -> list[Training]:
    """
    :param options: The options of the command line
    :return: The trainings of all combinations
    """
    trainings = []
    for seed, game, name in itertools.product(options.seeds, options.games, options.agents):
        steps = options.steps or GAMES[game]
        folder = folder_of(options.runs, env_id(game), name.replace(",", ""), seed, steps)
        trainings.append(Training(env_id(game), name, AGENTS[name], seed, steps, folder))
    return trainings


def curve(training: Training) -> pd.DataFrame:
    """
    :param training: A finished training
    :return: The coverage by the end of each interval, and the number and the mean score of the games that have ended
    """
    found, games = pd.read_csv(training.run / FILE_NAME), read_episodes(training)
    rows = []
    for steps in [*range(INTERVAL, training.steps, INTERVAL), training.steps]:
        new, ended = found[found.steps <= steps], games[games.steps <= steps]
        counts = {"rooms": new[new.what == "cell"].room.nunique()}
        counts |= {name: int((new.what == what).sum()) for name, what in FOUND.items()}
        rows.append({"steps": steps, **counts, "games": len(ended), "mean_score": ended.r.mean()})
    return pd.DataFrame(rows).assign(**training.columns())


def draw(results: pd.DataFrame, path: Path) -> None:
    """
    :param results: The rows of the CSV
    :param path: The picture to write: cells against steps, a panel for each game, a thin line for each seed
    """
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(results.task))
    figure, axes = plt.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 3.6), squeeze=False, layout="constrained")
    names = [name for name in AGENTS if name in set(results.agent)]
    colours = {name: f"C{list(AGENTS).index(name)}" for name in names}
    for axis, task in zip(axes[0], tasks, strict=True):
        for (name, _, _), rows in results[results.task == task].groupby(["agent", "seed", "total_steps"]):
            axis.plot(rows.steps / 1e3, rows.cells, color=colours[name], linewidth=1.0, alpha=0.8)
        axis.set_title(task.removesuffix("NoFrameskip-v4"), fontsize=10)
        axis.set_xlabel("thousand steps")
        axis.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("cells visited in the training")
    handles = [plt.Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, path)


def draw_cells(trainings: Sequence[Training], path: Path) -> None:
    """
    :param trainings: Finished trainings in Montezuma's Revenge
    :param path: The picture to write: the first room, a panel for each agent, in it the cells that the middle of the player
        has visited, coloured by the step of the first visit in any of the trainings
    """
    import matplotlib.pyplot as plt
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    names = list(dict.fromkeys(training.name for training in trainings))
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 4.2), squeeze=False, layout="constrained")
    picture, steps = first_room(), max(training.steps for training in trainings)
    for axis, name in zip(axes[0], names, strict=True):
        own = [training for training in trainings if training.name == name]
        found = pd.concat([pd.read_csv(training.run / FILE_NAME) for training in own])
        cells = found[(found.what == "cell") & (found.room == FIRST_ROOM)].groupby(["x", "y"]).steps.min()
        squares = [Rectangle(corner_of(*cell), CELL_SIZE, CELL_SIZE) for cell in cells.index]
        patches = PatchCollection(squares, cmap="viridis", alpha=0.6, linewidth=0)
        patches.set_array(cells.to_numpy() / 1e3)
        patches.set_clim(0, steps / 1e3)
        axis.imshow(picture)
        axis.add_collection(patches)
        axis.set_title(f"{name}: {len(cells)} cells\n(seeds {', '.join(str(training.seed) for training in own)})", fontsize=9)
        axis.axis("off")
    figure.colorbar(patches, ax=axes, label="first visit, thousand steps", shrink=0.6)
    save_figure(figure, path)


def corner_of(x: int, y: int) -> tuple[int, int]:
    """
    :param x: The column of a cell of Montezuma's Revenge
    :param y: The row of the cell, upwards
    :return: The upper left corner, on the screen, of the pixels that the middle of a player in this cell can have
    """
    # with the bytes 77 and 235 the player covers the columns 76 to 83 and the lines 73 to 92
    left, top = 80 - 77, 83 + 235
    return left + x * CELL_SIZE, top - (y + 1) * CELL_SIZE


def first_room() -> np.ndarray:
    """:return: The screen at the start of Montezuma's Revenge, (210, 160, 3) uint8"""
    env = AtariVecEnv(env_id(ROOM_GAME), 1, seed=0, render_mode="rgb_array")
    env.reset()
    (picture,) = env.get_images()
    env.close()
    return picture


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=[ROOM_GAME], choices=list(GAMES))
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=list(AGENTS))
    parser.add_argument("--picture", type=Path, help="The picture of the first room to draw, PNG or SVG")
    add_options(parser, runs="atari_runs")
    options = parser.parse_args(arguments)
    if options.picture and ROOM_GAME not in options.games:
        parser.error(f"--picture {options.picture} needs {ROOM_GAME}: add it to --games.")
    return options


def main() -> None:
    """Train, write the CSV, print a table, draw the pictures."""
    options = parse()
    trainings = make_trainings(options)
    train_all(trainings, options.jobs)
    results = add_to(options.output, pd.concat([curve(training) for training in trainings], ignore_index=True))
    last = results[results.steps == results.total_steps].set_index(KEY)
    print(last[["rooms", *FOUND, "mean_score", "cpu_seconds"]].round(1).to_string())
    if options.figure:
        draw(results, options.figure)
    if options.picture:
        draw_cells([training for training in trainings if training.task == env_id(ROOM_GAME)], options.picture)


if __name__ == "__main__":
    main()
