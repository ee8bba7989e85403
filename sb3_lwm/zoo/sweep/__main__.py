"""
``python -m sb3_lwm.zoo sweep``: start a search for hyperparameters, or join it with the same command on other machines.

Its trials are those of the Zoo's ``train -optimize``, its search is Optuna's.
"""

import argparse
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Any

import torch as th
from optuna.trial import TrialState
from stable_baselines3.common.utils import get_device

from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.zoo.experiment import LWMExperimentManager
from sb3_lwm.zoo.processes import handle_interruptions, stop
from sb3_lwm.zoo.sweep.study import FINISHED, KINDS, create_or_join, describe, open_storage, work

# Options of train whose values all workers of a study share
SHARED = (
    *("algo", "env", "eval_env_kwargs", "vec_env", "eval_episodes", "n_eval_envs", "gym_packages"),
    *("sampler", "pruner", "n_startup_trials", "seed"),
)


def _parse() -> tuple[argparse.Namespace, list[str]]:
    """Return the options of this command, and those of the Zoo's ``train``."""
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo sweep",
        description="Start a search for hyperparameters of lwm_dqn, or join it.",
        epilog="All other options are those of train -optimize: python -m sb3_lwm.zoo train --help.",
        allow_abbrev=False,
    )
    parser.add_argument("--storage", required=True, help=KINDS)
    parser.add_argument("--study-name", required=True, help="The study to create, or to join if it exists")
    parser.add_argument(
        "--n-trials", "--max-total-trials", type=int, default=100, help="The number of finished trials of the whole study"
    )
    parser.add_argument("--workers", type=int, default=1, help="The number of processes on this machine")
    parser.add_argument("--heartbeat", type=int, default=60, help="The seconds between heartbeats; a dead worker misses three")
    parser.add_argument("--algo", choices=["lwm_dqn"], help="The algorithm")
    options, of_train = parser.parse_known_args()
    # before the user's options, since the last value of an option counts
    defaults = ["--algo", "lwm_dqn", "--seed", "0", "--num-threads", "1", "--log-folder", "logs/sweeps"]
    return options, ["-optimize", *defaults, *of_train]


def _set_up(of_train: Sequence[str]) -> Any:
    """Set up an ``ExperimentManager`` by the Zoo's ``train``, and make an agent, to raise errors of wrong settings now."""
    train = importlib.import_module("rl_zoo3.train")
    original, arguments, managers = train.ExperimentManager, sys.argv, []
    methods = {"hyperparameters_optimization": lambda manager: managers.append(manager)}
    train.ExperimentManager = type("SweepManager", (LWMExperimentManager,), methods)  # type: ignore[attr-defined]
    sys.argv = ["train", *of_train]
    try:
        train.train()
    finally:
        train.ExperimentManager, sys.argv = original, arguments  # type: ignore[attr-defined]
    (manager,) = managers
    env = manager.create_envs(manager.n_envs, no_log=True)
    try:
        LWMDQN(env=env, device=manager.device, **manager._hyperparams).replay_memory().check()
    finally:
        env.close()
    return manager


def _read_settings(manager: Any, heartbeat: int) -> dict[str, Any]:
    """Return the settings that all trials of the study share, with values of JSON's types."""
    _, hyperparams = manager.read_hyperparameters()
    hyperparams |= {"n_timesteps": manager.n_timesteps, "env_kwargs": manager.env_kwargs}
    settings = {name: getattr(manager.args, name) for name in SHARED}
    settings |= {"n_evaluations": manager.n_evaluations, "fixed": sorted(manager.custom_hyperparams or ())}
    settings |= {"heartbeat": heartbeat, "hyperparams": hyperparams}
    try:
        if isinstance(hyperparams.get("policy_kwargs"), str):
            raise TypeError("policy_kwargs is a string")
        return json.loads(json.dumps(settings))
    except TypeError as error:
        raise ValueError(f"A sweep needs settings of YAML's types, without Python code: {error}.") from None


def _run_workers(n_workers: int) -> list[int]:
    """Run this command in several processes, showing only their stderr (Optuna's log), and return their exit statuses."""
    # the handler raises no exception, which could lose a process that has just been started
    interruptions: list[int] = []
    handle_interruptions(lambda number, _: interruptions.append(number))
    command = [sys.executable, "-m", "sb3_lwm.zoo", "sweep", *sys.argv[1:], "--workers", "1"]
    workers: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for index in range(n_workers):
            # in its own session, so that Ctrl-C reaches only this process, which interrupts each worker once
            workers[f"worker {index}"] = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        while not interruptions and any(worker.poll() is None for worker in workers.values()):
            time.sleep(0.2)
    finally:
        stop(workers, interruptions, print)
    if interruptions:
        raise KeyboardInterrupt
    return [worker.returncode for worker in workers.values()]


def _run(options: argparse.Namespace, of_train: Sequence[str]) -> int:
    """Run the trials; the exit status is 1 if a worker has failed and trials remain, or if no trial was completed."""
    manager = _set_up(of_train)
    settings = _read_settings(manager, options.heartbeat)
    name, seed = f"{socket.gethostname()}-{os.getpid()}", manager.seed
    # a different seed for each worker's sampler, since equal ones would begin with the same random trials
    manager.seed = zlib.crc32(f"{seed} {name}".encode())
    sampler, pruner = manager._create_sampler(manager.sampler), manager._create_pruner(manager.pruner)
    manager.seed = seed
    storage = open_storage(options.storage, options.heartbeat)
    study = create_or_join(storage, options.study_name, settings, sampler=sampler, pruner=pruner)
    statuses = _run_workers(options.workers) if options.workers > 1 else []
    if not statuses:
        worker = {"worker": name, "num_threads": th.get_num_threads(), "device": get_device(manager.device).type}
        work(study, manager.objective, options.n_trials, worker)
    print(describe(study))
    finished = study.get_trials(deepcopy=False, states=FINISHED)
    if any(statuses) and len(finished) < options.n_trials:
        print(f"Workers ended with exit statuses {statuses}: the same command continues.")
        return 1
    return int(all(trial.state != TrialState.COMPLETE for trial in finished))


def main() -> None:
    """Run the sweep; the exit status is 130 after an interruption."""
    handle_interruptions(signal.default_int_handler)
    try:
        sys.exit(_run(*_parse()))
    except KeyboardInterrupt:
        print("Interrupted: the trials that were running are queued again. The same command continues.")
        sys.exit(130)


if __name__ == "__main__":
    main()
