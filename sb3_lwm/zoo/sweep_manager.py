"""What a trial of a sweep is: the Zoo's manager made of the command's options, and checked before anything trains."""

import argparse
import contextlib
import copy
import difflib
import importlib
import io
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import optuna
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.zoo.search_space import CONTEXT, TrialContext

# Options that decide what the trials are: all who join a study must give the same.
SAME_OPTIONS = (
    *("algo", "env", "env_kwargs", "eval_env_kwargs", "vec_env", "eval_episodes", "n_eval_envs"),
    *("sampler", "pruner", "n_startup_trials", "max_total_trials", "seed"),
    # a shorter one would take those for dead who have a longer one
    *("heartbeat", "gym_packages"),
)


def make_manager(options: argparse.Namespace, folder: Path) -> ExperimentManager:
    """
    :param options: of the command line
    :param folder: for its files
    :return: the Zoo's manager, set up for trials
    :raises ValueError: if there is no such environment
    """
    for package in options.gym_packages:
        importlib.import_module(package)
    if options.env not in gym.registry:
        similar = difflib.get_close_matches(options.env, gym.registry, n=1)
        raise ValueError(f"--env {options.env} is not registered{f': did you mean {similar[0]}?' if similar else '.'}")
    manager = ExperimentManager(
        options,
        options.algo,
        options.env,
        str(folder),
        n_timesteps=options.n_timesteps,
        n_eval_episodes=options.eval_episodes,
        hyperparams=copy.deepcopy(options.hyperparams),
        env_kwargs=options.env_kwargs,
        eval_env_kwargs=options.eval_env_kwargs,
        optimize_hyperparameters=True,
        sampler=options.sampler,
        pruner=options.pruner,
        optimization_log_path=options.optimization_log_path,
        n_startup_trials=options.n_startup_trials,
        n_evaluations=options.n_evaluations,
        seed=options.seed,
        verbose=options.verbose,
        vec_env_type=options.vec_env,
        n_eval_envs=options.n_eval_envs,
        device=options.device,
        config=options.conf_file,
    )
    manager.setup_experiment()
    return manager


def read_settings(manager: ExperimentManager, options: argparse.Namespace) -> dict[str, Any]:
    """
    :param manager: set up
    :param options: of the command line
    :return: what all workers must agree on, of JSON's types
    :raises ValueError: if a setting is none that a file of settings can hold
    """
    with contextlib.redirect_stdout(io.StringIO()):
        # setup_experiment has printed it
        _, hyperparams = manager.read_hyperparameters()
    hyperparams["n_timesteps"] = manager.n_timesteps
    for name, value in hyperparams.items():
        try:
            json.dumps(value)
        except TypeError:
            is_python = True
        else:
            is_python = name == "policy_kwargs" and isinstance(value, str)
        if is_python:
            raise ValueError(f"{name}={value!r} is Python: a sweep needs settings that YAML can hold, such as a mapping.")
    return {
        **{name: getattr(options, name) for name in SAME_OPTIONS},
        "n_evaluations": manager.n_evaluations,
        "fixed": sorted(options.hyperparams or ()),
        "hyperparams": dict(hyperparams),
    }


def check(manager: ExperimentManager) -> None:
    """
    Make an agent of the settings, and one of a sample, before anything trains.

    :param manager: set up
    :raises ValueError: if the settings do not fit each other or the environment
    :raises MemoryError: if the replay does not fit into memory
    """
    hyperparams = copy.deepcopy(manager._hyperparams)
    sampled = sample_once(manager, hyperparams)
    env = manager.create_envs(manager.n_envs, no_log=True)
    try:
        for values in (hyperparams, {**hyperparams, **sampled}):
            LWMDQN(env=env, device=manager.device, **values).replay_memory().check()
    except AssertionError as error:
        # SB3's word for an action space or an observation space that is not supported
        raise ValueError(f"{manager.algo} cannot learn {manager.env_name.gym_id}: {error}") from None
    finally:
        env.close()


def sample_once(manager: ExperimentManager, hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    :param manager: set up
    :param hyperparams: the settings
    :return: what a trial might choose
    """
    verbosity = optuna.logging.get_verbosity()
    # not a word of this study
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    token = CONTEXT.set(TrialContext(hyperparams, frozenset(manager.custom_hyperparams or ())))
    try:
        return HYPERPARAMS_SAMPLER[manager.algo](optuna.create_study().ask(), manager.n_actions, manager.n_envs, {})
    finally:
        CONTEXT.reset(token)
        optuna.logging.set_verbosity(verbosity)
