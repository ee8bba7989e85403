"""
``python -m sb3_lwm.zoo sweep``: start or join a search for hyperparameters; the same command on any number of machines.

The trials are those of the Zoo's ``ExperimentManager``, the search is Optuna's. See :mod:`sb3_lwm.zoo.sweep_study` for how
workers share a study.
"""

import argparse
import copy
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import optuna
import torch as th
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.utils import get_device
from tqdm import tqdm

from sb3_lwm.zoo.processes import handle_interruptions, stop
from sb3_lwm.zoo.storage import load_study, open_storage
from sb3_lwm.zoo.sweep_manager import check, make_manager, read_settings
from sb3_lwm.zoo.sweep_options import parse
from sb3_lwm.zoo.sweep_study import FINISHED, OPEN, SweepStudy, begin_or_join, count_states, describe, queue_trials


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

    attributes = {
        "worker": worker.name,
        "num_threads": th.get_num_threads(),
        "device": get_device(options.device).type,
    }
    pruner = manager._create_pruner(options.pruner)
    SweepStudy(options.study_name, storage, make_sampler, pruner, attributes).work(manager.objective, options.n_trials)


def run_workers(options: argparse.Namespace, arguments: Sequence[str], study: optuna.Study) -> int:
    """
    Run several processes with the same command, and show how far they are. None outlives this one, whatever ends it.

    :param options: of the command line
    :param arguments: the command line itself
    :param study: which they share
    :return: how many of them failed
    :raises KeyboardInterrupt: when they have given their trials back
    """
    folder = Path(options.log_folder) / options.study_name
    folder.mkdir(parents=True, exist_ok=True)
    # not an exception: in the middle of a look at the study it would leave SQLite locked for the workers
    interruptions: list[int] = []
    handle_interruptions(lambda number, _: interruptions.append(number))
    workers: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for index in range(options.workers):
            log = folder / f"{this_worker(options).name}-{index}.log"
            workers[str(log)] = start_worker(arguments, log)
        print(f"{options.workers} workers, see {folder}/*.log")
        show_progress(study, lambda: not interruptions and any(worker.poll() is None for worker in workers.values()))
    finally:
        stop(workers, interruptions, print)
    if interruptions:
        raise KeyboardInterrupt
    failed = {log: worker.returncode for log, worker in workers.items() if worker.returncode}
    for log, code in failed.items():
        last = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        print(f"A worker ended with exit status {code}, see {log}: {' '.join(last)}")
    return len(failed)


def start_worker(arguments: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    """
    :param arguments: of the command line
    :param log: file for what it prints
    :return: a process with the same command for one worker
    """
    command = [sys.executable, "-m", "sb3_lwm.zoo", "sweep", *arguments, "--workers", "1", "--extend", "0"]
    with open(log, "w", encoding="utf-8") as file:
        # a session of its own: Ctrl-C reaches this process only, which tells them once
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def show_progress(study: optuna.Study, is_going_on: Callable[[], bool]) -> None:
    """
    :param study: which is worked at
    :param is_going_on: whether it still is
    """
    try:
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
    finally:
        # a look at the study that was broken off may have locked it
        study._storage.remove_session()


def main() -> None:
    """Start or join a sweep."""
    options = parse()
    handle_interruptions(signal.default_int_handler)
    if options.num_threads > 0:
        th.set_num_threads(options.num_threads)
    storage = open_storage(options.storage, options.heartbeat)
    worker = this_worker(options)
    manager = make_manager(options, worker.folder)
    check(manager)
    if options.extend:
        # of a study that there is
        load_study(storage, options.study_name)
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
    states = count_states(study)
    is_open = any(states[state] for state in OPEN)
    if is_open:
        names = ", ".join(state.name.lower() for state in OPEN if states[state])
        print(f"Not finished ({names}): the same command goes on.")
    sys.exit(int(n_failed > 0 or not (is_open or states[TrialState.COMPLETE])))


if __name__ == "__main__":
    main()
