"""Sweeps of several processes of which one is killed or all are interrupted: no trial is lost, none is finished twice."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers import changed, weights
from optuna.trial import FrozenTrial, TrialState
from postgresql_helpers import postgresql, server_programs
from sweep_helpers import JOINED, SWEEP, TINY, join_at_once

from sb3_lwm import LWMDQN
from sb3_lwm.zoo.sweep.study import find_trial, open_storage

pytestmark = pytest.mark.slow

TIMEOUT = 300.0
COMMAND = [sys.executable, "-m", "sb3_lwm.zoo"]
# trials of some seconds
LONG_SWEEP = [*COMMAND, "sweep", *SWEEP, "n_envs:2", "-n", "600"]


@pytest.fixture
def server() -> Iterator[str]:
    if server_programs() is None:
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="needs the extra 'sweeps'")
    with postgresql() as url:
        yield url


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@contextmanager
def joined(url: str, has_begun: Callable[[], bool]) -> Iterator[optuna.Study]:
    """
    :param url: The URL of a storage
    :param has_begun: Whether the workers have created the tables
    :return: The study that the workers have created
    """
    wait_for(has_begun)
    storage = open_storage(url)
    wait_for(lambda: "mine" in optuna.get_all_study_names(storage))
    try:
        yield optuna.load_study(study_name="mine", storage=storage)
    finally:
        storage.engine.dispose()  # type: ignore[attr-defined]


@contextmanager
def started(command: list[str], logs: list[Path]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """
    :param command: The command of each process
    :param logs: A file for the output of each process
    :return: The processes, which are killed at the end
    """
    processes = []
    try:
        for path in logs:
            with open(path, "w") as log:
                processes.append(subprocess.Popen(command, cwd=path.parent, stdout=log, stderr=subprocess.STDOUT))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def in_training(study: optuna.Study) -> list[FrozenTrial]:
    """
    :param study: A study that workers run
    :return: The trials before the first of their two evaluations, which will not finish in the next moment
    """
    running = [trial for trial in study.trials if trial.state == TrialState.RUNNING and "tau" in trial.params]
    return [trial for trial in running if not trial.intermediate_values]


def worker_pid(trial: FrozenTrial) -> int:
    return int(trial.user_attrs["worker"].rsplit("-", 1)[1])


def kill_one(study: optuna.Study) -> FrozenTrial:
    """
    :param study: A study that workers run
    :return: The trial of the worker that was killed, in the middle of its training, after another trial was completed
    """
    found: list[FrozenTrial] = []

    def is_found() -> bool:
        found[:] = in_training(study)
        return bool(found) and any(trial.state == TrialState.COMPLETE for trial in study.trials)

    wait_for(is_found)
    os.kill(worker_pid(found[-1]), signal.SIGKILL)
    return found[-1]


def assert_finished_once(trials: list[FrozenTrial], killed: FrozenTrial, n_trials: int) -> None:
    """
    :param trials: The trials of a study that has ended
    :param killed: The trial of the worker that was killed
    :param n_trials: The number of trials that the study needed
    """
    for trial in trials:
        print(trial.number, trial.state.name, trial.user_attrs, trial.value, trial.system_attrs.get("retry_history", ""))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    # all but the killed one, and its seed is that of another trial
    assert [trial.number for trial in trials if trial.state != TrialState.COMPLETE] == [killed.number]
    assert len({trial.user_attrs["seed"] for trial in complete}) == len(complete)
    # one more if two workers started the last trial at the same moment
    assert len(complete) in (n_trials, n_trials + 1)
    dead = trials[killed.number]
    (again,) = (trial for trial in complete if trial.user_attrs["seed"] == dead.user_attrs["seed"])
    assert dead.state == TrialState.FAIL and again.system_attrs["retry_history"] == [dead.number]
    assert again.params.items() >= dead.params.items() and again.user_attrs["worker"] != dead.user_attrs["worker"]


def test_many_workers_join_at_once(server: str) -> None:
    assert join_at_once(server, n_processes=8) == [JOINED] * 8


def test_one_of_four_workers_is_killed(server: str, tmp_path: Path) -> None:
    study_options = ["--storage", server, "--study-name", "mine"]
    options = [
        *("--env", "POL-3x3-v0", "-n", "400", "--eval-episodes", "4", "--n-eval-envs", "4", "--n-trials", "12"),
        *("--n-evaluations", "2"),
        *("--pruner", "none", "--heartbeat", "2", "--optimization-log-path", "trials", "-params", "n_envs:2", *TINY),
    ]
    logs = [tmp_path / f"{index}.log" for index in range(4)]

    def has_tables() -> bool:
        return any("created in RDB" in log.read_text() for log in logs)

    # the database is empty, and all four create its tables
    with started([*COMMAND, "sweep", *study_options, *options], logs) as workers, joined(server, has_tables) as study:
        killed = kill_one(study)
        codes = {worker.pid: worker.wait(TIMEOUT) for worker in workers}
        trials, best = study.trials, find_trial(study)
    assert codes.pop(worker_pid(killed)) == -signal.SIGKILL
    texts = [log.read_text() for log, worker in zip(logs, workers, strict=True) if worker.pid in codes]
    assert set(codes.values()) == {0}, "\n".join(text[-2000:] for text in texts)
    assert_finished_once(trials, killed, n_trials=12)
    assert len({trial.user_attrs["worker"] for trial in trials if trial.state == TrialState.COMPLETE}) >= 3
    # the survivors wait for the last trial, and so report the same best one
    line = f"Best: trial {best.number}, value {best.value!r}, seed {best.user_attrs['seed']}."
    assert all(line in text for text in texts)
    train_again(study_options, best, tmp_path)


def train_again(study_options: list[str], best: FrozenTrial, cwd: Path) -> None:
    """The report's command trains the same agent, to the same score."""
    subprocess.run([*COMMAND, "sweep_report", *study_options, "-o", "report"], cwd=cwd, check=True, timeout=TIMEOUT)
    command = shlex.split((cwd / "report/best.yml").read_text().splitlines()[2].removeprefix("# "))
    subprocess.run([sys.executable, *command[1:]], cwd=cwd, check=True, timeout=TIMEOUT)
    with np.load(cwd / "logs/lwm_dqn/POL-3x3-v0_1/evaluations.npz") as evaluations:
        assert evaluations["results"].mean(axis=1)[-1] == best.value
    files = (cwd / f"trials/trial_{best.number}/best_model", cwd / "logs/lwm_dqn/POL-3x3-v0_1/best_model")
    first, second = (LWMDQN.load(file, device="cpu") for file in files)
    assert not changed(weights(first.policy), weights(second.policy))


def test_the_command_finishes_all_trials_when_one_of_its_workers_is_killed(tmp_path: Path) -> None:
    command = [*LONG_SWEEP, "--workers", "2", "--heartbeat", "2", "--n-trials", "4"]
    database = tmp_path / "study.db"
    with (
        started(command, [tmp_path / "log"]) as (process,),
        joined(f"sqlite:///{database}", database.exists) as study,
    ):
        killed = kill_one(study)
        assert process.wait(TIMEOUT) == 0, (tmp_path / "log").read_text()[-2000:]
        assert_finished_once(study.trials, killed, n_trials=4)


def test_ctrl_c_and_the_same_command_again(tmp_path: Path) -> None:
    database = tmp_path / "study.db"
    with (
        started([*LONG_SWEEP, "--workers", "2"], [tmp_path / "log"]) as (process,),
        joined(f"sqlite:///{database}", database.exists) as study,
    ):
        wait_for(lambda: len(in_training(study)) == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        assert "Interrupted: the trials that were running are queued again." in (tmp_path / "log").read_text()
        states = [trial.state for trial in study.trials]
        # at once, not after three heartbeats
        assert TrialState.RUNNING not in states and states.count(TrialState.FAIL) == states.count(TrialState.WAITING) > 0
        seeds = {trial.user_attrs["seed"] for trial in study.trials if trial.state == TrialState.FAIL}
        subprocess.run(LONG_SWEEP, cwd=tmp_path, check=True, timeout=TIMEOUT)
        complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == 3 and seeds <= {trial.user_attrs["seed"] for trial in complete}
