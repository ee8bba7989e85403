"""Where Optuna keeps a study: opened with clear errors, by any number of processes at once, and with a heartbeat."""

import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
import sqlalchemy
import sqlalchemy.exc
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import (
    BaseStorage,
    GrpcStorageProxy,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    get_storage,
)
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy import URL

KINDS = "sqlite:///FILE, postgresql://USER@HOST/DATABASE, grpc://HOST:PORT, or a journal file that ends in .log"
# SQLAlchemy's names of databases and drivers; psycopg is version 3
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgresql+psycopg": "postgresql+psycopg"}
INSTALL = "pip install 'sb3-lwm[sweeps]'"
# A worker that is silent for so many heartbeats is dead.
SILENT_HEARTBEATS = 3
MAX_RETRIES = 3
TABLE_ATTEMPTS = 10
# What databases say of a table or a row that another process has just made
MADE_BY_OTHERS = ("already exists", "duplicate key", "UNIQUE constraint", "database is locked")
CONNECT_TIMEOUT = 10  # seconds
GRPC_TIMEOUT = 10.0  # seconds


@contextmanager
def experimental() -> Iterator[None]:
    """Optuna calls its heartbeat and its gRPC proxy experimental; that is said in the README, not at every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


class AttributeHeartbeat(BaseHeartbeat):
    """
    A heartbeat for storages that have none in Optuna 5: an attribute of the trial that changes. A trial is stale when this
    process has seen no change for the grace period; the clocks of other machines do not matter.
    """

    heartbeat_interval: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # by id of the trial: its last heartbeat, and when it was first seen here
        self._seen: dict[int, tuple[float | None, float]] = {}

    def record_heartbeat(self, trial_id: int) -> None:
        """:param trial_id: of a trial that is alive"""
        try:
            self.set_trial_system_attr(trial_id, "heartbeat", time.time())  # type: ignore[attr-defined]
        except UpdateFinishedTrialError:
            # another worker has taken this one for dead; it will find out when it reports a value
            pass

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        assert self.heartbeat_interval is not None
        stale, now = [], time.monotonic()
        for trial in self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):  # type: ignore[attr-defined]
            beat = trial.system_attrs.get("heartbeat")
            if beat is None:
                # another program's, as in Optuna's databases
                continue
            last_beat, since = self._seen.get(trial._trial_id, (None, now))
            if beat != last_beat or trial._trial_id not in self._seen:
                since = now
            self._seen[trial._trial_id] = (beat, since)
            if now - since > SILENT_HEARTBEATS * self.heartbeat_interval:
                stale.append(trial._trial_id)
        return stale

    def get_heartbeat_interval(self) -> int | None:
        """:return: in seconds, None for no heartbeat"""
        return self.heartbeat_interval

    def get_heartbeat_stale_trial_callback(self) -> RetryHeartbeatStaleTrialCallback:
        """:return: what puts a stale trial back"""
        return retry_callback()


class HeartbeatJournalStorage(AttributeHeartbeat, JournalStorage):
    """A journal file with a heartbeat."""


class HeartbeatGrpcStorageProxy(AttributeHeartbeat, GrpcStorageProxy):
    """Optuna's gRPC proxy with a heartbeat."""


def retry_callback(max_retries: int | None = MAX_RETRIES) -> RetryHeartbeatStaleTrialCallback:
    """
    :param max_retries: how often a trial is put back, None for always
    :return: puts a failed trial back, with its parameters and its seed
    """
    with experimental():
        return RetryHeartbeatStaleTrialCallback(max_retry=max_retries)


def open_storage(url: str, heartbeat: int | None = None, create: bool = True) -> BaseStorage:
    """
    Open a storage.

    :param url: see ``KINDS``
    :param heartbeat: seconds between two signs of life of a running trial; None for none, which is enough to read
    :param create: whether to create what is missing: the file, its folder, the tables. Without, any database will do of which
        Optuna has made use
    :return: the storage
    :raises ValueError: if it is no storage that we know, or there is none and none is to be created
    :raises ImportError: if its driver is not installed
    :raises ConnectionError: if it cannot be reached
    """
    scheme = urlsplit(url).scheme
    with experimental():
        if scheme == "grpc":
            storage: Any = _open_grpc(url)
        elif scheme in DRIVERS or (scheme and not create):
            return _open_database(url, heartbeat, create)
        elif not scheme and url.endswith(".log"):
            if not create and not Path(url).exists():
                raise ValueError(f"--storage {url} does not exist.")
            Path(url).parent.mkdir(parents=True, exist_ok=True)
            storage = HeartbeatJournalStorage(JournalFileBackend(url))
        else:
            raise ValueError(f"--storage {url} is none of those that a sweep can use: {KINDS}.")
    storage.heartbeat_interval = heartbeat
    return storage


def _open_grpc(url: str) -> HeartbeatGrpcStorageProxy:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"--storage {url}: {error}. Use grpc://HOST:PORT.") from None
    if host is None or port is None:
        raise ValueError(f"--storage {url} lacks the host or the port: use grpc://HOST:PORT.")
    try:
        storage = HeartbeatGrpcStorageProxy(host=host, port=port)
        storage.wait_server_ready(timeout=GRPC_TIMEOUT)
    except ImportError as error:
        raise ImportError(f"--storage {url} needs grpcio and protobuf: {INSTALL}.") from error
    except ConnectionError:
        raise ConnectionError(f"No server answers at {url}: start one with optuna.storages.run_grpc_proxy_server.") from None
    return storage


def _open_database(url: str, heartbeat: int | None, create: bool) -> BaseStorage:
    scheme, rest = url.split(":", 1)
    try:
        parsed = sqlalchemy.make_url(f"{DRIVERS.get(scheme, scheme)}:{rest}")
        # Optuna's own error does not name the driver
        parsed.get_dialect().import_dbapi()
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise ValueError(f"--storage {scheme}:... is no URL of a database ({error}): use one of {KINDS}.") from None
    except ImportError as error:
        remedy = f": {INSTALL}" if scheme in DRIVERS else ""
        raise ImportError(f"--storage {scheme}:... needs the driver {error.name}{remedy}.") from error
    try:
        if not create:
            _require_tables(parsed)
        return get_storage(_create_tables(parsed, heartbeat))
    except (sqlalchemy.exc.DatabaseError, StorageInternalError) as error:
        raise ConnectionError(f"--storage {parsed} cannot be opened: {_reason(error)}") from None


def _engine_kwargs(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        # one writer at a time
        return {"connect_args": {"timeout": 60}}
    # connections to a server are lost in hours of training
    kwargs: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        kwargs["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT}
    return kwargs


def _require_tables(url: URL) -> None:
    """:raises ValueError: if there is no file, or no table of studies in the database"""
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        # which a look at it would create
        raise ValueError(f"--storage {url} does not exist.")
    engine = sqlalchemy.create_engine(url, **_engine_kwargs(url))
    try:
        if not sqlalchemy.inspect(engine).has_table("studies"):
            raise ValueError(f"--storage {url} has no studies.")
    finally:
        engine.dispose()


def _create_tables(url: URL, heartbeat: int | None) -> RDBStorage:
    """
    Create the tables, or find them: of processes that begin at the same moment on an empty database, one succeeds with each
    table, and the others are told that it exists (Optuna 5.0 takes no lock). They try again and find it.
    """
    for attempt in range(TABLE_ATTEMPTS):
        try:
            return RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs=_engine_kwargs(url),
                heartbeat_interval=heartbeat,
                grace_period=None if heartbeat is None else SILENT_HEARTBEATS * heartbeat,
                heartbeat_stale_trial_callback=retry_callback(),
            )
        except (sqlalchemy.exc.DatabaseError, StorageInternalError) as error:
            if attempt == TABLE_ATTEMPTS - 1 or not any(words in _reason(error) for words in MADE_BY_OTHERS):
                raise
            time.sleep(random.uniform(0.05, 0.2) * (attempt + 1))
    raise AssertionError("the last attempt returns or raises")


def _reason(error: BaseException) -> str:
    """:return: what the database has said, without SQL"""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return str(getattr(error, "orig", None) or error).strip()


def load_study(storage: BaseStorage, name: str) -> optuna.Study:
    """
    :param storage: an open one
    :param name: of a study
    :return: the study
    :raises ValueError: if there is none of this name; lists those that there are
    """
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        names = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none at all"
        raise ValueError(f"--study-name {name}: the storage has no such study. It has: {names}.") from None
