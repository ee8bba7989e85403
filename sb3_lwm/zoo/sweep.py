"""
``python -m sb3_lwm.zoo sweep``: start or join a search for hyperparameters; the same command on any number of machines.

The trials are those of the Zoo's ``ExperimentManager``, the search is Optuna's. See :mod:`sb3_lwm.zoo.sweep_study` for how
workers share a study.
"""

import argparse
import contextlib
import copy
import difflib
import importlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import optuna
import torch as th
import yaml
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER
from rl_zoo3.utils import StoreDict
from tqdm import tqdm

from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.zoo.search_space import CONTEXT, TrialContext
from sb3_lwm.zoo.storage import KINDS, open_storage
from sb3_lwm.zoo.sweep_study import FINISHED, OPEN, SweepStudy, begin_or_join, count_states, describe, queue_trials

# Options that decide what the trials are: all who join a study must give the same.
SAME_OPTIONS = (
    *("algo", "env", "env_kwargs", "eval_env_kwargs", "vec_env", "eval_episodes", "n_eval_envs"),
    *("sampler", "pruner", "n_startup_trials", "max_total_trials", "seed"),
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    :param arguments: of the command line, by default ``sys.argv``
    :return: the options
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo sweep", description="Start or join a search for hyperparameters."
    )
    study = parser.add_argument_group("study")
    study.add_argument("--storage", required=True, help=KINDS)
    study.add_argument("--study-name", required=True, help="the study to begin, or to join if there is one")
    study.add_argument("--max-total-trials", type=int, default=100, help="of the whole study")
    study.add_argument("--extend", type=int, default=0, help="add so many trials to a study that there is")
    study.add_argument("--sampler", default="tpe", choices=["tpe", "random"])
    study.add_argument("--pruner", default="median", choices=["median", "halving", "none"])
    study.add_argument("--n-startup-trials", type=int, default=10, help="random ones, before the sampler and the pruner begin")
    study.add_argument("--seed", type=int, default=0, help="of the study; a trial has it plus its number")
    study.add_argument("--heartbeat", type=int, default=60, help="seconds; a worker that misses three is dead")
    worker = parser.add_argument_group("workers")
    worker.add_argument("--workers", type=int, default=1, help="processes on this machine")
    worker.add_argument("--n-trials", type=int, help="of each worker, which goes on to the end by default")
    worker.add_argument("--num-threads", type=int, default=1, help="of PyTorch, of each worker; -1 for its default")
    worker.add_argument("--device", default="auto", help="of the networks")
    worker.add_argument("-f", "--log-folder", default="logs/sweeps", help="gets a folder for each worker")
    worker.add_argument("--optimization-log-path", help="folder for the evaluations and the best model of each trial")
    trial = parser.add_argument_group("trials, as rl_zoo3.train")
    trial.add_argument("--algo", default="lwm_dqn", choices=["lwm_dqn"])
    trial.add_argument("--env", required=True, help="id of the environment")
    trial.add_argument("-n", "--n-timesteps", type=int, default=-1, help="of a trial, by default the settings'")
    trial.add_argument("--n-evaluations", type=int, help="of a trial, by default one per 100 000 steps")
    trial.add_argument("--eval-episodes", type=int, default=5)
    trial.add_argument("--n-eval-envs", type=int, default=1)
    trial.add_argument("--vec-env", default="dummy", choices=["dummy", "subproc"])
    trial.add_argument("--env-kwargs", nargs="+", action=StoreDict, default={})
    trial.add_argument("--eval-env-kwargs", nargs="+", action=StoreDict)
    trial.add_argument("-params", "--hyperparams", nargs="+", action=StoreDict, help="fixed, and so not searched")
    trial.add_argument("-conf", "--conf-file", help="settings that the trials start from")
    trial.add_argument("--gym-packages", nargs="+", default=[], help="to import")
    trial.add_argument("--verbose", type=int, default=1)
    options = parser.parse_args(arguments)
    for name, lowest in (("max_total_trials", 1), ("workers", 1), ("heartbeat", 1), ("extend", 0), ("seed", 0)):
        if getattr(options, name) < lowest:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: it must be at least {lowest}")
    return options


class Worker(NamedTuple):
    """This process."""

    name: str  # of the host, and the number of the process
    folder: Path  # of its own


def this_worker(options: argparse.Namespace) -> Worker:
    """
    :param options: of the command line
    :return: its name and its folder
    """
    name = f"{socket.gethostname()}-{os.getpid()}"
    return Worker(name, Path(options.log_folder) / options.study_name / name)


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
            text = yaml.safe_dump(value)
        except yaml.YAMLError:
            text = None
        if text is None or (name == "policy_kwargs" and isinstance(value, str)):
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


def work(options: argparse.Namespace, storage: BaseStorage, manager: ExperimentManager, worker: Worker) -> None:
    """
    Run trials in this process.

    :param options: of the command line
    :param storage: an open one
    :param manager: set up
    :param worker: this one
    """

    def make_sampler(seed: int) -> optuna.samplers.BaseSampler:
        seeded = copy.copy(manager)
        seeded.seed = seed
        return seeded._create_sampler(options.sampler)

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("worker", worker.name)
        return manager.objective(trial)

    study = SweepStudy(options.study_name, storage, make_sampler, manager._create_pruner(options.pruner))
    study.work(objective, options.n_trials)


def run_workers(options: argparse.Namespace, arguments: Sequence[str], study: optuna.Study) -> int:
    """
    Run several processes with the same command, and show how far they are.

    :param options: of the command line
    :param arguments: the command line itself
    :param study: which they share
    :return: how many of them failed
    :raises KeyboardInterrupt: when they have given their trials back
    """
    folder = Path(options.log_folder) / options.study_name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sb3_lwm.zoo", "sweep", *arguments, "--workers", "1", "--extend", "0"]
    logs = [folder / f"{this_worker(options).name}-{index}.log" for index in range(options.workers)]
    processes = []
    for log in logs:
        with open(log, "w", encoding="utf-8") as file:
            # a session of its own: Ctrl-C reaches this process only, which tells them once
            processes.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True))
    print(f"{options.workers} workers, see {folder}/*.log")
    try:
        show_progress(study, lambda: any(process.poll() is None for process in processes))
    except KeyboardInterrupt:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()
        raise
    codes = [process.wait() for process in processes]
    for log, code in zip(logs, codes, strict=True):
        if code:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            print(f"A worker ended with exit status {code}, see {log}: {' '.join(last)}")
    return sum(code != 0 for code in codes)


def show_progress(study: optuna.Study, is_going_on: Callable[[], bool]) -> None:
    """
    :param study: which is worked at
    :param is_going_on: whether it still is
    """
    with tqdm(desc="Trials", unit="trial", disable=None) as bar:
        while True:
            goes_on = is_going_on()
            states = count_states(study)
            bar.total = sum(states[state] for state in (*FINISHED, *OPEN))
            bar.n = sum(states[state] for state in FINISHED)
            best = f"{study.best_value:.4g}" if states[TrialState.COMPLETE] else "none"
            bar.set_postfix(best=best, running=states[TrialState.RUNNING], failed=states[TrialState.FAIL])
            if not goes_on:
                return
            time.sleep(1)


def main() -> None:
    """Start or join a sweep."""
    options = parse()
    # as by Ctrl-C: Slurm and others end a job so
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.num_threads > 0:
        th.set_num_threads(options.num_threads)
    storage = open_storage(options.storage, options.heartbeat)
    worker = this_worker(options)
    manager = make_manager(options, worker.folder)
    check(manager)
    study = begin_or_join(storage, options.study_name, read_settings(manager, options))
    if options.extend:
        queue_trials(study, options.seed, options.extend)
    n_failed = 0
    try:
        if options.workers == 1:
            work(options, storage, manager, worker)
        else:
            n_failed = run_workers(options, sys.argv[1:], study)
    except KeyboardInterrupt:
        print("Interrupted: what was running is given back. The same command goes on.")
        sys.exit(130)
    print(describe(study))
    if states := [state for state in OPEN if count_states(study)[state]]:
        print(f"Not finished ({', '.join(state.name.lower() for state in states)}): the same command goes on.")
    sys.exit(int(n_failed > 0))


if __name__ == "__main__":
    main()
