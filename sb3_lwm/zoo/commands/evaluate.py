"""
``python -m sb3_lwm.zoo evaluate``: the scores of whole games of a trained agent.

The agent may be of any algorithm of the Zoo, and plays in the environments of its training, with their wrappers and settings.
The command reports the first games to finish, as in papers, which favours short games, and the first games to start, which is
unbiased. If ``native_atari`` plays a game whose memory holds the player's position (Montezuma's Revenge, Venture, Private Eye,
Pitfall, Freeway, Frostbite), it also reports the visited rooms and cells in each game, and the rooms, cells, keys and doors of
all games together, also of unfinished ones. The csv file has all four counts for each game.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm.common.evaluation import Game, play_games
from sb3_lwm.common.files import whole_file
from sb3_lwm.envs import AtariVecEnv
from sb3_lwm.zoo.commands.option_types import integer_from
from sb3_lwm.zoo.commands.player import add_player_options, load_player, make_env, parse_player_options


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options
    """
    parser = argparse.ArgumentParser(prog="python -m sb3_lwm.zoo evaluate", description="Report scores of whole games.")
    add_player_options(parser)
    parser.add_argument("--n-games", type=integer_from(1), default=128, help="The number of games of each mean score")
    parser.add_argument("--n-envs", type=integer_from(1), default=128, help="The number of parallel games")
    parser.add_argument("--output", type=Path, help="The csv file for the games")
    return parse_player_options(parser, arguments)


def _add_row(label: str, games: list[Game], table: Table) -> None:
    scores = np.array([game.score for game in games])
    table.add_row(
        label,
        f"{scores.mean():.2f}",
        f"{scores.std(ddof=1) / np.sqrt(len(scores)):.2f}" if len(scores) > 1 else "",
        f"{scores.min():.0f} to {scores.max():.0f}",
        f"{np.mean([game.length for game in games]):.1f}",
        *(_visited(games, name) for name in ("rooms", "cells")),
    )


def _coverage(env: VecEnv) -> str:
    """Return the counts of all games together in words; empty for environments without these counts."""
    games = env.unwrapped
    counts = games.coverage.of_training() if isinstance(games, AtariVecEnv) else {}
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _visited(games: list[Game], name: str) -> str:
    """Return the mean and the maximum of a count in words; empty if no game has it."""
    counts = [game.visited[name] for game in games if name in game.visited]
    return f"{np.mean(counts):.2f}, at most {max(counts)}" if counts else ""


def _write_games(path: Path, games: list[Game], options: argparse.Namespace, epsilon: float | None) -> None:
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = list(games[0].visited)
        writer.writerow(["started", "score", "length", *names, "env", "seed", "epsilon"])
        for game in games:
            visited = [game.visited.get(name) for name in names]
            writer.writerow([game.started, game.score, game.length, *visited, options.env, options.seed, epsilon])


def main() -> None:
    """Play the games and print the table."""
    options = parse()
    model, run, is_deterministic = load_player(options)
    set_random_seed(options.seed)
    env = make_env(options, run)
    scores = play_games(model, env, options.n_games, is_deterministic)
    coverage = _coverage(env)
    env.close()
    epsilon = getattr(model.policy, "evaluation_eps", None)
    title = options.env if epsilon is None else f"{options.env}, epsilon {epsilon}"
    table = Table("games", "mean score", "standard error", "scores", "mean steps", "rooms", "cells", title=title)
    _add_row(f"first {options.n_games} games to finish", scores.first_finished, table)
    _add_row(f"first {options.n_games} games started", scores.first_started, table)
    if coverage:
        table.caption = f"All games together: {coverage}"
    # a fixed width, so that the table also fits in a file
    Console(width=140).print(table)
    if options.output is not None:
        games = {game.started: game for game in [*scores.first_finished, *scores.first_started]}
        _write_games(options.output, list(games.values()), options, epsilon)


if __name__ == "__main__":
    main()
