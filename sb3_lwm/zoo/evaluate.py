"""
``python -m sb3_lwm.zoo evaluate``: scores of whole games of a trained agent, counted as papers count them and as is fair.

The agent may be of any algorithm of the Zoo, and plays in the environments of its training, with their wrappers and settings.
Beside the first games to finish, which favour short ones, it reports the first games that were started, and, where
``native_atari`` plays a game whose memory tells (Montezuma's Revenge, Venture, Private Eye), the number of rooms visited.
"""

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rl_zoo3.import_envs  # noqa: F401  registers the environments
import yaml
from huggingface_sb3 import EnvironmentName
from rich.console import Console
from rich.table import Table
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS, StoreDict, create_test_env, get_model_path, get_saved_hyperparams
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_lwm.common.evaluation import Game, play_games
from sb3_lwm.common.files import whole_file
from sb3_lwm.envs.atari.games import ROOM_BYTES, find_game
from sb3_lwm.lwm_dqn.policies import LWMPolicy
from sb3_lwm.zoo.registration import ALGORITHM

NATIVE = "sb3_lwm.zoo.atari.native_atari"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: of the command line, by default ``sys.argv``
    :return: the options
    """
    parser = argparse.ArgumentParser(prog="python -m sb3_lwm.zoo evaluate", description="Scores of whole games.")
    add_player_options(parser)
    parser.add_argument("--n-games", type=int, default=128, help="games that count")
    parser.add_argument("--n-envs", type=int, default=128, help="games at a time")
    parser.add_argument("--output", type=Path, help="a csv file for the games")
    options = parser.parse_args(arguments)
    for name in ("n_games", "n_envs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: at least 1.")
    check_player_options(parser, options)
    return options


def add_player_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: gets the options that say who plays, which :func:`load_player` and :func:`make_env` ask for beside
        ``n_envs``
    """
    parser.add_argument("--env", required=True, help="id of the environment")
    parser.add_argument("--algo", default="lwm_dqn", choices=list(ALGOS), help="the algorithm")
    parser.add_argument("-f", "--folder", default="logs", help="log folder of the training")
    parser.add_argument("--exp-id", type=int, default=0, help="number of the run, 0 for the latest")
    parser.add_argument("--load-best", action="store_true", help="the best model instead of the last")
    parser.add_argument("--load-checkpoint", help="the checkpoint of this step")
    parser.add_argument("--load-last-checkpoint", action="store_true", help="the last checkpoint")
    parser.add_argument("--eps", type=float, help="random actions, by default the run's evaluation_eps; of lwm_dqn only")
    parser.add_argument("--max-episode-steps", type=int, help="of a game that native_atari plays, by default the run's")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, help="of the environment, in place of the training's")
    parser.add_argument("--seed", type=int, default=0, help="of the games and the random actions")
    parser.add_argument("--device", default="auto", help="of the networks")


def check_player_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """
    End the program if the options contradict each other.

    :param parser: whose usage is printed
    :param options: of the command line
    """
    if options.eps is not None and options.algo != ALGORITHM:
        parser.error(f"--eps {options.eps} is of {ALGORITHM}: {options.algo} decides by itself how much it plays at random.")
    if options.eps is not None and not 0.0 <= options.eps <= 1.0:
        parser.error(f"--eps {options.eps}: a share of the actions, from 0 to 1.")


def make_env(options: argparse.Namespace, run: str, render_mode: str | None = None) -> VecEnv:
    """
    :param options: of the command line
    :param run: folder of the training, whose wrappers and ``env_kwargs`` are used
    :param render_mode: None, or ``"rgb_array"`` or ``"ansi"`` for :func:`sb3_lwm.figures.watch_episode`
    :return: the environments, which report whole games
    :raises ValueError: if ``--max-episode-steps`` is given and ``native_atari`` is not among the wrappers
    """
    hyperparameters, statistics = get_saved_hyperparams(os.path.join(run, EnvironmentName(options.env)), test_mode=True)
    is_native = _set_native_atari(hyperparameters, options)
    env_kwargs = {**_env_kwargs(hyperparameters, run, options.env), **(options.env_kwargs or {})}
    if render_mode is not None:
        env_kwargs = {**env_kwargs, "render_mode": render_mode}
        if not is_native:
            collector = {"gymnasium.wrappers.RenderCollection": {"reset_clean": False}}
            hyperparameters["env_wrapper"] = [*_as_list(hyperparameters.get("env_wrapper")), collector]
    return create_test_env(
        options.env,
        options.n_envs,
        stats_path=statistics,
        seed=options.seed,
        should_render=False,
        env_kwargs=env_kwargs,
        hyperparams=hyperparameters,
        vec_env_cls=DummyVecEnv,
    )


def _set_native_atari(hyperparameters: dict[str, Any], options: argparse.Namespace) -> bool:
    """
    Let ``native_atari`` count the rooms of all games, and end them when the command line says.

    :param hyperparameters: of the run, changed in place
    :param options: of the command line
    :return: whether it is among the wrappers
    :raises ValueError: see :func:`make_env`
    """
    given = _as_list(hyperparameters.get("vec_env_wrapper"))
    wrappers = [each if isinstance(each, dict) else {each: {}} for each in given]
    native = [each[NATIVE] for each in wrappers if NATIVE in each]
    if not native:
        if options.max_episode_steps is not None:
            raise ValueError(
                f"--max-episode-steps {options.max_episode_steps} is of games that native_atari plays, which this run of "
                f"{options.env} did not use: leave it out."
            )
        return False
    if find_game(options.env).rom in ROOM_BYTES:
        native[0]["ram_envs"] = options.n_envs
    if options.max_episode_steps is not None:
        native[0]["max_episode_steps"] = options.max_episode_steps
    hyperparameters["vec_env_wrapper"] = wrappers
    return True


def _as_list(wrappers: Any) -> list[Any]:
    """:return: what a block of hyperparameters gives as one wrapper, as several, or as none"""
    return wrappers if isinstance(wrappers, list) else [wrappers] if wrappers else []


def _env_kwargs(hyperparameters: dict[str, Any], run: str, env_id: str) -> dict[str, Any]:
    """
    :param hyperparameters: of the run; loses its ``env_kwargs``, which the Zoo would not expect there
    :param run: folder of the training
    :param env_id: id of the environment
    :return: what the training's environments were made with; the command line goes before the hyperparameters
    """
    kwargs = hyperparameters.pop("env_kwargs", {})
    file = Path(run, EnvironmentName(env_id), "args.yml")
    # the Zoo writes it with Python's own types in it
    given = yaml.unsafe_load(file.read_text(encoding="utf-8"))["env_kwargs"] if file.exists() else None
    return kwargs if given is None else given


def print_scores(label: str, games: list[Game], table: Table) -> None:
    """
    :param label: which games these are
    :param games: at least one
    :param table: gets a row
    """
    scores = np.array([game.score for game in games])
    rooms = [game.rooms for game in games if game.rooms is not None]
    table.add_row(
        label,
        f"{scores.mean():.2f}",
        f"{scores.std(ddof=1) / np.sqrt(len(scores)):.2f}" if len(scores) > 1 else "",
        f"{scores.min():.0f} to {scores.max():.0f}",
        f"{np.mean([game.length for game in games]):.1f}",
        f"{np.mean(rooms):.2f}, at most {max(rooms)}" if rooms else "",
    )


def write_games(path: Path, games: list[Game], options: argparse.Namespace, epsilon: float | None) -> None:
    """
    :param path: of a csv file, replaced if there is one
    :param games: a row each
    :param options: of the command line
    :param epsilon: share of random actions, None if the agent has none of its own
    """
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*Game._fields, "env", "seed", "epsilon"])
        writer.writerows([[*game, options.env, options.seed, epsilon] for game in games])


def load_player(options: argparse.Namespace) -> tuple[BaseAlgorithm, str, bool]:
    """
    :param options: of the command line
    :return: the trained agent, the folder of its run, and whether it plays deterministically: never an ``LWMDQN``, which
        plays at random with its ``evaluation_eps``, also where ``enjoy`` lets it play without; others as ``enjoy`` decides it
    """
    checkpoint = (options.load_best, options.load_checkpoint, options.load_last_checkpoint)
    _, path, run = get_model_path(options.exp_id, options.folder, options.algo, EnvironmentName(options.env), *checkpoint)
    print(f"Loading {path}")
    model = ALGOS[options.algo].load(path, device=options.device, seed=options.seed)
    if isinstance(model.policy, LWMPolicy):
        if options.eps is not None:
            model.policy.evaluation_eps = options.eps
        return model, run, False
    return model, run, not (ExperimentManager.is_atari(options.env) or ExperimentManager.is_minigrid(options.env))


def main() -> None:
    """Play the games and print the table."""
    options = parse()
    model, run, is_deterministic = load_player(options)
    set_random_seed(options.seed)
    env = make_env(options, run)
    scores = play_games(model, env, options.n_games, is_deterministic)
    env.close()
    epsilon = getattr(model.policy, "evaluation_eps", None)
    title = options.env if epsilon is None else f"{options.env}, epsilon {epsilon}"
    table = Table("games", "mean score", "standard error", "scores", "mean steps", "rooms", title=title)
    print_scores(f"first {options.n_games} games to finish", scores.first_finished, table)
    print_scores(f"first {options.n_games} games started", scores.first_started, table)
    # wide enough for a file, too
    Console(width=140).print(table)
    if options.output is not None:
        games = {game.started: game for game in [*scores.first_finished, *scores.first_started]}
        write_games(options.output, list(games.values()), options, epsilon)


if __name__ == "__main__":
    main()
