"""A study that workers share: storages, joining, trials of interrupted and killed workers."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sweep_helpers import JOINED, grpc_proxy, join_at_once, start
from zoo_commands import REPOSITORY

from sb3_lwm.zoo.sweep import study as study_module
from sb3_lwm.zoo.sweep.study import create_or_join, describe, find_trial, load_study, open_storage, work

SETTINGS = {"seed": 5, "env": "POL-3x3-v0", "hyperparams": {"policy_kwargs": {"net_arch": [8, 8]}}}
ME = {"worker": "me"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "POLL", 0.1)
    monkeypatch.setattr(study_module, "CONNECT_TIMEOUT", 0.5)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture(params=["database", "journal", "grpc"])
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStorage]:
    with ExitStack() as stack:
        urls = {"database": f"sqlite:///{tmp_path}/study.db", "journal": f"{tmp_path}/new/study.log"}
        storage: Any = open_storage(urls.get(request.param) or stack.enter_context(grpc_proxy(tmp_path)), heartbeat=1)
        yield storage
        if request.param == "grpc":
            storage.close()


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


# --- Storages ---


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://localhost", r"--storage redis://localhost cannot be opened: .*redis.*\. Use sqlite:///FILE, "),
        ("study.db", r"--storage study\.db cannot be opened: Could not parse SQLAlchemy URL"),
        ("sqlite:////no/such/folder/study.db", r"no/such/folder/study\.db cannot be opened: unable to open"),
        ("postgresql://me:secret@127.0.0.1:1/x", r"//me:\*\*\*@127\.0\.0\.1:1/x cannot be opened: .*refused"),
        ("postgresql://me@host:port/x", "cannot be opened: .*port"),
        ("grpc://localhost:1", "grpc://localhost:1 cannot be opened: .*timeout"),
        ("grpc://localhost:port", "cannot be opened: .*port"),
    ],
)
def test_storages_that_cannot_be_opened(url: str, message: str) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="needs the extra 'sweeps'")
    if url.startswith("grpc"):
        pytest.importorskip("grpc", reason="needs the extra 'sweeps'")
    with pytest.raises(ConnectionError, match=message) as raised:
        open_storage(url)
    assert "secret" not in str(raised.value)


def test_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"--storage postgresql: pip install 'sb3-lwm\[sweeps\]'"):
        open_storage("postgresql://me@host/x")


@pytest.mark.parametrize("url", ["sqlite:///{}/new.db", "{}/new/study.log"])
def test_loading_creates_nothing(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"new.* cannot be opened: it does not exist"):
        load_study(url.format(tmp_path), "mine")
    assert not list(tmp_path.iterdir())


def test_unknown_study(database: str) -> None:
    create_or_join(open_storage(database), "mine", SETTINGS)
    assert load_study(database, "mine").user_attrs["lwm_sweep"] == SETTINGS
    with pytest.raises(ValueError, match=r"--study-name yours: the storage has no such study\. Its studies: mine\."):
        load_study(database, "yours")


def test_proxy_command_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (REPOSITORY / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if "run_grpc_proxy_server" in line)
    python, _, program = shlex.split(line)
    served: list[tuple[BaseStorage, str]] = []
    monkeypatch.setattr("optuna.storages.run_grpc_proxy_server", lambda storage, host: served.append((storage, host)))
    exec(program.replace("postgresql://me@server/sweeps", f"sqlite:///{tmp_path}/study.db"))
    ((storage, host),) = served
    assert python == "python" and host == "0.0.0.0" and optuna.get_all_study_names(storage) == []


# --- Joining ---


@pytest.mark.parametrize("url", ["sqlite:///{}/study.db", "{}/study.log"])
def test_many_workers_join_at_once(url: str, tmp_path: Path) -> None:
    assert join_at_once(url.format(tmp_path), n_processes=6) == [JOINED] * 6


def test_other_settings_are_refused(database: str) -> None:
    storage = open_storage(database)
    create_or_join(storage, "mine", SETTINGS)
    create_or_join(storage, "mine", SETTINGS)
    with pytest.raises(ValueError, match=r"mine has other settings \(algo: None there, 'dqn' here; seed: 5 there, 6 here\)"):
        create_or_join(storage, "mine", {**SETTINGS, "seed": 6, "algo": "dqn"})
    optuna.create_study(storage=storage, study_name="small")
    with pytest.raises(ValueError, match="--study-name small minimizes the reward"):
        create_or_join(storage, "small", SETTINGS)


# --- Work ---


def test_a_study_gets_enough_trials_and_is_resumed_with_more(any_storage: BaseStorage) -> None:
    work(create_or_join(any_storage, "mine", SETTINGS), objective, 2, ME)
    study = create_or_join(any_storage, "mine", SETTINGS)
    for n_trials, n_after in ((2, 2), (5, 5), (3, 5)):
        work(study, objective, n_trials, ME)
        assert states(study) == ["COMPLETE"] * n_after
    assert all(trial.user_attrs == ME for trial in study.trials)


def test_trials_of_the_users_queue_run_first(any_storage: BaseStorage) -> None:
    study = create_or_join(any_storage, "mine", SETTINGS)
    study.enqueue_trial({"x": 0.25})
    work(study, objective, 2, ME)
    assert study.trials[0].params == {"x": 0.25} and states(study) == ["COMPLETE"] * 2


def test_an_interrupted_trial_is_run_again(any_storage: BaseStorage) -> None:
    study = create_or_join(any_storage, "mine", SETTINGS)
    study.enqueue_trial({"y": 0.75})

    def interrupted(trial: optuna.Trial) -> float:
        trial.set_user_attr("seed", 7)
        objective(trial)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            work(study, interrupted, 2, ME)
    work(study, lambda trial: objective(trial) + trial.suggest_float("y", 0.0, 1.0), 2, {"worker": "you"})
    assert states(study) == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    first, _, last, _ = study.trials
    assert last.user_attrs == {"seed": 7, "worker": "you"}
    assert last.params == {**first.params, "y": 0.75}


def test_an_error_ends_the_worker_and_another_trial_replaces_its_own(database: str) -> None:
    study = create_or_join(open_storage(database), "mine", SETTINGS)

    def fail(trial: optuna.Trial) -> float:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        work(study, fail, 2, ME)
    work(study, objective, 2, ME)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]


def _work_until_killed(url: str) -> None:
    def die(trial: optuna.Trial) -> float:
        objective(trial)
        if trial.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    work(create_or_join(open_storage(url, heartbeat=1), "mine", SETTINGS), die, 3, {"worker": "dead", "seed": 7})


def test_the_trial_of_a_killed_worker_is_run_again(database: str) -> None:
    dead = start(_work_until_killed, database)
    dead.join()
    assert dead.exitcode == -signal.SIGKILL
    study = create_or_join(open_storage(database, heartbeat=1), "mine", SETTINGS)
    assert states(study) == ["COMPLETE", "RUNNING"]
    # finishes a trial of its own, and waits for the dead worker's
    work(study, objective, 3, ME)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    _, lost, _, again = study.trials
    assert again.system_attrs["retry_history"] == [1] and again.params == lost.params
    assert (again.user_attrs, lost.user_attrs) == ({"seed": 7, "worker": "me"}, {"seed": 7, "worker": "dead"})


def test_a_journal_does_not_retry_and_is_not_waited_for(tmp_path: Path) -> None:
    url = f"{tmp_path}/study.log"
    start(_work_until_killed, url).join()
    study = create_or_join(open_storage(url, heartbeat=1), "mine", SETTINGS)
    work(study, objective, 3, ME)
    assert states(study) == ["COMPLETE", "RUNNING", "COMPLETE"]


def test_a_trial_whose_worker_never_began_is_not_waited_for(database: str) -> None:
    storage = open_storage(database, heartbeat=1)
    study = create_or_join(storage, "mine", SETTINGS)
    storage.create_new_trial(study._study_id)
    work(study, objective, 2, ME)
    assert states(study) == ["RUNNING", "COMPLETE", "COMPLETE"]


# --- Results ---


def test_the_best_trial_is_the_first_of_equal_ones(database: str) -> None:
    study = create_or_join(open_storage(database), "mine", SETTINGS)
    with pytest.raises(ValueError, match="The study mine has no complete trial among its 0 trials"):
        find_trial(study)
    work(study, lambda trial: [0.0, 1.0, 1.0, -1.0][trial.number] + 0 * objective(trial), 4, {**ME, "seed": 8})
    assert find_trial(study).number == 1 and find_trial(study, 3).number == 3
    assert describe(study) == "Study mine: 4 complete.\nBest: trial 1, value 1.0, seed 8."
    study.enqueue_trial({})
    for number in (4, 5, -1):
        with pytest.raises(ValueError, match=f"The study mine has no trial {number} with parameters among its 5 trials"):
            find_trial(study, number)


def test_failures_are_counted(database: str) -> None:
    study = create_or_join(open_storage(database), "mine", SETTINGS)

    def fail(trial: optuna.Trial) -> float:
        trial.set_user_attr("failure", "MemoryError: too large")
        raise optuna.TrialPruned

    work(study, fail, 2, ME)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2
    assert describe(study) == "Study mine: 2 pruned.\n2 failed: MemoryError: too large"
