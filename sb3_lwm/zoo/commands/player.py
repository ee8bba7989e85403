"""The trained agent and the environments of the commands ``evaluate``, ``play``, ``record`` and ``watch``."""

import argparse
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rl_zoo3.import_envs  # noqa: F401  registers the environments
import yaml
from huggingface_sb3 import EnvironmentName
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS, StoreDict, create_test_env, get_model_path, get_saved_hyperparams
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_lwm.envs.atari.coverage import POSITIONS
from sb3_lwm.envs.atari.games import find_game
from sb3_lwm.lwm_dqn.policies import LWMPolicy
from sb3_lwm.zoo.commands.option_types import integer_from, share
from sb3_lwm.zoo.registration import ALGORITHM

NATIVE = "sb3_lwm.zoo.atari.native_atari"


def add_player_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: The parser, which gets the options of :func:`load_player` and :func:`make_env`, except for ``n_envs``
    """
    parser.add_argument("--env", required=True, help="The id of the environment")
    parser.add_argument("--algo", default=ALGORITHM, choices=list(ALGOS), help="The algorithm")
    parser.add_argument("-f", "--folder", default="logs", help="The log folder of the training")
    parser.add_argument("--exp-id", type=int, default=0, help="The number of the run, 0 for the latest")
    parser.add_argument("--load-best", action="store_true", help="Load the best model instead of the last")
    parser.add_argument("--load-checkpoint", help="Load the checkpoint of this step")
    parser.add_argument("--load-last-checkpoint", action="store_true", help="Load the last checkpoint")
    parser.add_argument("--eps", type=share, help="The random action probability (lwm_dqn), by default that of the run")
    parser.add_argument(
        "--max-episode-steps", type=integer_from(1), help="The time limit of a game of native_atari, by default the run's"
    )
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, help="Arguments that override those of the environment")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="Modules to import, which register environments")
    parser.add_argument("--seed", type=integer_from(0), default=0, help="The seed of the games and the random actions")
    parser.add_argument("--device", default="auto", help="The device of the networks")


def parse_player_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """
    Parse the command line, and import the modules of ``--gym-packages``.

    :param parser: A parser with the options of :func:`add_player_options`
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options
    :raises ImportError: If a module of ``--gym-packages`` cannot be imported
    """
    options = parser.parse_args(arguments)
    if options.eps is not None and options.algo != ALGORITHM:
        parser.error(f"--eps {options.eps} is an option of {ALGORITHM}: leave it out for {options.algo}.")
    for module in options.gym_packages:
        importlib.import_module(module)
    return options


def load_player(options: argparse.Namespace) -> tuple[BaseAlgorithm, str, bool]:
    """
    :param options: The options of the command line
    :return: The trained agent, the folder of its run, and whether it plays deterministically: an ``LWMDQN`` never does, since
        it has the random action probability ``evaluation_eps``, other agents as in ``enjoy``
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


def make_env(options: argparse.Namespace, run: str, render_mode: str | None = None) -> VecEnv:
    """
    :param options: The options of the command line, and ``n_envs``
    :param run: The folder of the training, whose wrappers and ``env_kwargs`` are used
    :param render_mode: The render mode: None, or ``"rgb_array"`` or ``"ansi"`` for :func:`sb3_lwm.figures.watch_episode`
    :return: The environments, which report whole games
    :raises ValueError: If ``--max-episode-steps`` is given and ``native_atari`` is not among the wrappers
    """
    hyperparameters, statistics = get_saved_hyperparams(os.path.join(run, EnvironmentName(options.env)), test_mode=True)
    is_native = _set_native_atari(hyperparameters, options)
    env_kwargs = {**_env_kwargs(hyperparameters, run, options.env), **(options.env_kwargs or {})}
    if render_mode is not None:
        env_kwargs["render_mode"] = render_mode
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
    """Set the coverage and the time limit of ``native_atari`` by the options, and return whether the run has used it."""
    given = _as_list(hyperparameters.get("vec_env_wrapper"))
    wrappers = [each if isinstance(each, dict) else {each: {}} for each in given]
    native = [each[NATIVE] for each in wrappers if NATIVE in each]
    if not native:
        if options.max_episode_steps is not None:
            raise ValueError(
                f"--max-episode-steps {options.max_episode_steps} is an option of native_atari, which this run of "
                f"{options.env} has not used: leave it out."
            )
        return False
    if find_game(options.env).rom in POSITIONS:
        native[0]["ram_envs"] = options.n_envs
    if options.max_episode_steps is not None:
        native[0]["max_episode_steps"] = options.max_episode_steps
    hyperparameters["vec_env_wrapper"] = wrappers
    return True


def _as_list(wrappers: Any) -> list[Any]:
    """Return the wrappers of a block of hyperparameters, which may name one, several or none, as a list."""
    return wrappers if isinstance(wrappers, list) else [wrappers] if wrappers else []


def _env_kwargs(hyperparameters: dict[str, Any], run: str, env_id: str) -> dict[str, Any]:
    """Return the training's ``env_kwargs``: its command line overrides its hyperparameters, from which they are removed."""
    kwargs = hyperparameters.pop("env_kwargs", {})
    file = Path(run, EnvironmentName(env_id), "args.yml")
    # the Zoo's file contains Python's own types
    given = yaml.unsafe_load(file.read_text(encoding="utf-8"))["env_kwargs"] if file.exists() else None
    return kwargs if given is None else given
