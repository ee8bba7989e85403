"""A sweep of several processes on a real PostgreSQL server: one is killed, and nothing is lost or done twice."""

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
from test_storage import begin_at_once
from test_sweep import SWEEP, TINY

from sb3_lwm import LWMDQN
from sb3_lwm.zoo.storage import load_study, open_storage
from sb3_lwm.zoo.sweep_study import best_trial

pytestmark = pytest.mark.slow

TIMEOUT = 300.0
COMMAND = [sys.executable, "-m", "sb3_lwm.zoo"]


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
    """:return: the study, once others have made it"""
    wait_for(has_begun)
    storage = open_storage(url)
    wait_for(lambda: "mine" in optuna.get_all_study_names(storage))
    try:
        yield load_study(storage, "mine")
    finally:
        # Optuna has no word for it
        storage._backend.engine.dispose()  # type: ignore[attr-defined]


def in_the_middle(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """:return: the trials that train"""
    return [trial for trial in trials if trial.state == TrialState.RUNNING and "tau" in trial.params]


def test_many_begin_at_once(server: str) -> None:
    assert begin_at_once(server, n_processes=8) == [("MAXIMIZE", 2)] * 8


def test_one_of_four_is_killed(server: str, tmp_path: Path) -> None:
    options = ["--storage", server, "--study-name", "mine"]
    sweep = [
        *("--env", "POL-3x3-v0", "-n", "400", "--eval-episodes", "4", "--n-eval-envs", "4", "--max-total-trials", "12"),
        *("--pruner", "none", "--heartbeat", "2", "--optimization-log-path", "trials", "-params", "n_envs:2", *TINY),
    ]
    logs = [tmp_path / f"{index}.log" for index in range(4)]
    # the tables are the workers' to make
    with started([*COMMAND, "sweep", *options, *sweep], logs) as workers, joined(server, lambda: has_tables(logs)) as study:
        killed = kill_one(study)
        codes = {worker.pid: worker.wait(TIMEOUT) for worker in workers}
        trials, best = study.trials, best_trial(study)
    pid = worker_pid(killed)
    assert codes.pop(pid) == -signal.SIGKILL
    texts = [log.read_text() for log, worker in zip(logs, workers, strict=True) if worker.pid != pid]
    assert set(codes.values()) == {0}, "\n".join(text[-2000:] for text in texts)
    print(table(trials))
    (dead,) = (trial for trial in trials if trial.state == TrialState.FAIL)
    assert dead.number == killed.number
    # nothing is lost, nothing is done twice
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(trials) == 13 and sorted(trial.user_attrs["seed"] for trial in complete) == list(range(12))
    (again,) = (trial for trial in trials if trial.system_attrs.get("retry_history"))
    assert again.system_attrs["retry_history"] == [dead.number]
    assert (again.params, again.user_attrs["seed"]) == (dead.params, dead.user_attrs["seed"])
    assert len({trial.user_attrs["worker"] for trial in complete}) >= 3
    # the best trial is the same from every worker
    line = f"Best: trial {best.number}, value {best.value!r}, seed {best.user_attrs['seed']}."
    assert all(line in text for text in texts)
    train_again(options, best, tmp_path)


@contextmanager
def started(command: list[str], logs: list[Path]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """:return: a process for each file, which gets what it prints"""
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


def has_tables(logs: list[Path]) -> bool:
    return any("created in RDB" in log.read_text() for log in logs)


def kill_one(study: optuna.Study) -> FrozenTrial:
    """:return: what was in the hands of the worker that was killed, in the middle of it, with other trials complete"""
    killed: list[FrozenTrial] = []

    def can_kill_one() -> bool:
        killed[:] = in_the_middle(study.trials)
        return bool(killed) and any(trial.state == TrialState.COMPLETE for trial in study.trials)

    wait_for(can_kill_one)
    os.kill(worker_pid(killed[0]), signal.SIGKILL)
    return killed[0]


def worker_pid(trial: FrozenTrial) -> int:
    return int(trial.user_attrs["worker"].rsplit("-", 1)[1])


def table(trials: list[FrozenTrial]) -> str:
    """:return: a line for each trial"""
    lines = [
        f"{trial.number:3} {trial.state.name:9} seed {trial.user_attrs['seed']:2} {trial.user_attrs['worker']:24} "
        f"{trial.value} {trial.system_attrs.get('retry_history', '')}"
        for trial in trials
    ]
    return "\n".join(lines)


def train_again(options: list[str], best: FrozenTrial, cwd: Path) -> None:
    """The report's command trains the same agent, to the same score."""
    subprocess.run([*COMMAND, "sweep_report", *options, "-o", "report"], cwd=cwd, check=True, timeout=TIMEOUT)
    command = shlex.split((cwd / "report/best.yml").read_text().splitlines()[2].removeprefix("# "))
    subprocess.run([sys.executable, *command[1:]], cwd=cwd, check=True, timeout=TIMEOUT)
    with np.load(cwd / "logs/lwm_dqn/POL-3x3-v0_1/evaluations.npz") as evaluations:
        assert evaluations["results"].mean(axis=1)[-1] == best.value
    files = (cwd / f"trials/trial_{best.number}/best_model", cwd / "logs/lwm_dqn/POL-3x3-v0_1/best_model")
    first, second = (LWMDQN.load(file, device="cpu") for file in files)
    assert not changed(weights(first.policy), weights(second.policy))


def test_ctrl_c_and_again(tmp_path: Path) -> None:
    command = [*COMMAND, "sweep", *SWEEP, "n_envs:2"]
    with (
        subprocess.Popen([*command, "--workers", "2"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process,
        joined(f"sqlite:///{tmp_path}/study.db", (tmp_path / "study.db").exists) as study,
    ):
        wait_for(lambda: len(in_the_middle(study.trials)) > 0)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT)
        assert "Interrupted: what was running is given back." in output and process.returncode == 130
        states = [trial.state for trial in study.trials]
        # at once, not after the grace period
        assert TrialState.RUNNING not in states and TrialState.FAIL in states
        subprocess.run(command, cwd=tmp_path, check=True, timeout=TIMEOUT)
        complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs["seed"] for trial in complete) == [3, 4, 5]
