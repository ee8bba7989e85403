"""Storages of studies: opened with clear errors, by many at once, and with a heartbeat."""

import multiprocessing
import shlex
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, get_storage
from optuna.storages._grpc.server import make_server
from optuna.trial import TrialState
from zoo_commands import REPOSITORY

from sb3_lwm.zoo import storage as storage_module
from sb3_lwm.zoo.storage import AttributeHeartbeat, load_study, open_storage
from sb3_lwm.zoo.sweep_study import begin_or_join

README = REPOSITORY / "README.md"
SETTINGS = {"seed": 0, "max_total_trials": 2}


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("redis://localhost", ValueError, r"--storage redis://localhost is none of those"),
        ("study.db", ValueError, r"--storage study\.db is none of those that a sweep can use: sqlite:///FILE"),
        ("sqlite:////no/such/folder/study.db", ConnectionError, r"no/such/folder/study\.db cannot be opened: unable to open"),
        ("postgresql://me:secret@127.0.0.1:1/x", ConnectionError, r"//me:\*\*\*@127\.0\.0\.1:1/x cannot be opened: .*refused"),
        ("postgresql://me@host:port/x", ValueError, "is no URL of a database"),
        ("grpc://localhost", ValueError, "lacks the host or the port: use grpc://HOST:PORT"),
        ("grpc://localhost:port", ValueError, "Use grpc://HOST:PORT"),
    ],
)
def test_bad_storages(url: str, error: type[Exception], message: str) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="needs the extra 'sweeps'")
    with pytest.raises(error, match=message) as raised:
        open_storage(url)
    assert "secret" not in str(raised.value)


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc", reason="needs the extra 'sweeps'")
    monkeypatch.setattr(storage_module, "GRPC_TIMEOUT", 0.5)
    with pytest.raises(ConnectionError, match="No server answers at grpc://localhost:1: start one"):
        open_storage("grpc://localhost:1")


def test_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"needs the driver psycopg: pip install 'sb3-lwm\[sweeps\]'"):
        open_storage("postgresql://me@host/x")


def test_unknown_study(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--study-name x: the storage has no such study\. It has: none at all"):
        load_study(open_storage(f"{tmp_path}/new/journal.log"), "x")


@pytest.mark.parametrize("url", ["sqlite:///{}/new/study.db", "{}/new/study.log"])
def test_readers_create_nothing(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"new/study\.(db|log) does not exist"):
        open_storage(url.format(tmp_path), create=False)
    assert not list(tmp_path.iterdir())


def test_database_of_something_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    (tmp_path / "study.db").touch()
    with pytest.raises(ValueError, match=r"study\.db has no studies"):
        open_storage(url, create=False)
    (tmp_path / "study.db").write_text("This is no database. " * 100)
    for create in (False, True):
        with pytest.raises(ConnectionError, match=r"study\.db cannot be opened: file is not a database"):
            open_storage(url, create=create)


@contextmanager
def grpc_proxy(folder: Path) -> Iterator[str]:
    """
    :param folder: for the database behind it
    :return: the URL of a server in this process
    """
    pytest.importorskip("grpc", reason="needs the extra 'sweeps'")
    server = make_server(get_storage(f"sqlite:///{folder}/study.db"), "localhost", 0, ThreadPoolExecutor(2))
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"grpc://localhost:{port}"
    server.stop(None).wait()


def test_command_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = (line for line in README.read_text().splitlines() if "run_grpc_proxy_server" in line)
    python, _, program = shlex.split(line)
    served: list[tuple[BaseStorage, str]] = []
    monkeypatch.setattr("optuna.storages.run_grpc_proxy_server", lambda storage, host: served.append((storage, host)))
    exec(program.replace("postgresql+psycopg://me@server/sweeps", f"sqlite:///{tmp_path}/study.db"))
    ((storage, host),) = served
    assert python == "python" and host == "0.0.0.0" and optuna.get_all_study_names(storage) == []


@pytest.fixture(params=["journal", "grpc"])
def beating(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A storage to which this package gives the heartbeat."""
    if request.param == "journal":
        yield open_storage(f"{tmp_path}/study.log", heartbeat=1)
        return
    with grpc_proxy(tmp_path) as url:
        storage = open_storage(url, heartbeat=1)
        yield storage
        storage.close()  # type: ignore[attr-defined]


def test_heartbeat_of_an_attribute(beating: BaseStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(beating, AttributeHeartbeat)
    clock = [0.0]
    monkeypatch.setattr(storage_module.time, "monotonic", lambda: clock[0])
    study = optuna.create_study(storage=beating, study_name="mine")
    trial_id = beating.create_new_trial(study._study_id)
    silent_id = beating.create_new_trial(study._study_id)
    beating.record_heartbeat(silent_id)
    # another program's, which has none
    beating.create_new_trial(study._study_id)
    for clock[0] in (1.0, 3.0):
        beating.record_heartbeat(trial_id)
        assert beating._get_stale_trial_ids(study._study_id) == []
    # 3 heartbeats of 1 second after it was first seen
    clock[0] = 4.5
    beating.record_heartbeat(trial_id)
    assert beating._get_stale_trial_ids(study._study_id) == [silent_id]
    clock[0] = 8.0
    assert beating._get_stale_trial_ids(study._study_id) == [trial_id, silent_id]
    # Taken for dead: the worker that comes back is told when it reports, not by an error in a thread.
    beating.set_trial_state_values(trial_id, TrialState.FAIL)
    beating.record_heartbeat(trial_id)
    assert beating._get_stale_trial_ids(study._study_id) == [silent_id]


def begin(url: str, barrier: Any, results: Any) -> None:
    barrier.wait()
    try:
        study = begin_or_join(open_storage(url, heartbeat=60), "mine", SETTINGS)
        results.put((study.direction.name, len(study.trials)))
    except BaseException as error:
        results.put(repr(error))
        raise


def begin_at_once(url: str, n_processes: int) -> list[Any]:
    """
    :param url: of an empty storage
    :param n_processes: that begin the same study at one moment
    :return: what they found
    """
    # they need no import of torch; pytest-xdist has threads, at which Python 3.12 warns
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(n_processes), context.Queue()
    processes = [context.Process(target=begin, args=(url, barrier, results)) for _ in range(n_processes)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        for process in processes:
            process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return found


@pytest.mark.parametrize("url", ["sqlite:///{}/study.db", "{}/study.log"])
def test_many_begin_at_once(url: str, tmp_path: Path) -> None:
    assert begin_at_once(url.format(tmp_path), n_processes=6) == [("MAXIMIZE", 2)] * 6
