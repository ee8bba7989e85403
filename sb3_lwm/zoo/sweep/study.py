"""
A study of Optuna that is shared by any number of workers. In a database, Optuna's heartbeat detects that a worker has died,
and another worker runs its trial again with the same parameters and the same seed.
"""

import random
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from filelock import FileLock
from optuna import storages
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, DatabaseError

KINDS = "sqlite:///FILE, postgresql://USER@HOST/DATABASE, grpc://HOST:PORT, or a journal file whose name ends in .log"
SETTINGS = "lwm_sweep"  # the attribute of a study with the settings that all its trials share
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
MISSED_HEARTBEATS, MAX_RETRIES = 3, 3  # missed heartbeats of a worker that counts as dead, and repetitions of its trial
POLL = 1.0  # seconds between two checks for work
CONNECT_TIMEOUT = 10.0  # seconds


def open_storage(url: str, heartbeat: int = 60, create: bool = True) -> storages.BaseStorage:
    """
    Open a storage. Optuna only has a heartbeat for databases: with journal files and the gRPC proxy, trials are not repeated.

    :param url: The URL of the storage, see ``KINDS``
    :param heartbeat: The number of seconds between two heartbeats of a running trial
    :param create: Whether to create a missing file
    :return: The storage
    :raises ImportError: If the driver of the storage is not installed
    :raises ConnectionError: If the storage cannot be opened, or must not be created
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # for the heartbeat and the proxy, see docs/sweeps.md
        try:
            path = url if url.endswith(".log") else url.removeprefix("sqlite:///")
            if not create and "://" not in path and not Path(path).exists():
                raise FileNotFoundError("it does not exist")
            if url.startswith("grpc://"):
                proxy = storages.GrpcStorageProxy(host=urlsplit(url).hostname or "", port=urlsplit(url).port or 0)
                proxy.wait_server_ready(timeout=CONNECT_TIMEOUT)
                return proxy
            if "://" not in url and url.endswith(".log"):
                Path(url).parent.mkdir(parents=True, exist_ok=True)
                return storages.JournalStorage(JournalFileBackend(url))
            return _open_database(url, heartbeat)
        except ImportError as error:
            raise ImportError(f"{error} --storage {url.split(':')[0]}: pip install 'sb3-lwm[sweeps]'.") from error
        except (OSError, ValueError, ArgumentError, DatabaseError, StorageInternalError) as error:
            shown = re.sub("//(.*):.*@", r"//\1:***@", url)
            reason = str(error.__cause__ or "") or error
            raise ConnectionError(f"--storage {shown} cannot be opened: {reason}. Use {KINDS}.") from None


def _open_database(url: str, heartbeat: int) -> storages.RDBStorage:
    """Open a database; retry if processes that create its tables at the same moment fail, since Optuna takes no lock."""
    deadline = time.monotonic() + CONNECT_TIMEOUT
    file = Path(url.removeprefix("sqlite:///"))
    while True:
        try:
            # a lock for SQLite, which, unlike a server, does not undo the tables of the process that fails
            with FileLock(f"{file}.lock") if url.startswith("sqlite:///") and file.parent.is_dir() else nullcontext():
                return storages.RDBStorage(
                    url,
                    # a file has only one writer at a time; the connection to a server may break during a training
                    engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True},
                    heartbeat_interval=heartbeat,
                    grace_period=MISSED_HEARTBEATS * heartbeat,
                    heartbeat_stale_trial_callback=storages.RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
                )
        except (DatabaseError, StorageInternalError):
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.1, 0.5))


def load_study(url: str, name: str) -> optuna.Study:
    """
    Load an existing study.

    :param url: The URL of its storage
    :param name: The name of the study
    :return: The study
    :raises ValueError: If the storage has no study of this name
    """
    storage = open_storage(url, create=False)
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        names = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise ValueError(f"--study-name {name}: the storage has no such study. Its studies: {names}.") from None


def create_or_join(storage: storages.BaseStorage, name: str, settings: dict[str, Any], **kwargs: Any) -> optuna.Study:
    """
    Create a study, or join a study with the same settings.

    :param storage: The storage
    :param name: The name of the study
    :param settings: The settings that all trials of the study share, of JSON's types without tuples
    :param kwargs: The sampler and the pruner of this worker
    :return: The study
    :raises ValueError: If the study exists with other settings, or does not maximize
    """
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True, **kwargs)
    if study.direction.name != "MAXIMIZE":
        raise ValueError(f"--study-name {name} minimizes the reward: use another name.")
    if SETTINGS not in study.user_attrs:
        study.set_user_attr(SETTINGS, settings)
    theirs = study.user_attrs[SETTINGS]
    changed = [key for key in sorted({*theirs, *settings}) if theirs.get(key) != settings.get(key)]
    if changed:
        differences = "; ".join(f"{key}: {theirs.get(key)!r} there, {settings.get(key)!r} here" for key in changed)
        raise ValueError(f"--study-name {name} has other settings ({differences}): repeat its command, or use another name.")
    return study


def work(study: optuna.Study, objective: Callable[[optuna.Trial], float], n_trials: int, worker: dict[str, Any]) -> None:
    """
    Run trials until the study has enough. In a database, also wait for the last trials of other workers, which may die.

    :param study: The study
    :param objective: The function that runs a trial. A trial that ends by a ``KeyboardInterrupt`` is queued again.
    :param n_trials: The required number of finished trials. Workers that start trials at the same moment may exceed it.
    :param worker: The attributes to set for the trials of this worker, with its name as ``worker``
    """

    def run(trial: optuna.Trial) -> float:
        try:
            if isinstance(study._storage, BaseHeartbeat):
                # Optuna's own first heartbeat comes from a thread, and this process may be killed before it
                study._storage.record_heartbeat(trial._trial_id)
            for name, value in worker.items():
                trial.set_user_attr(name, value)
            return objective(trial)
        except KeyboardInterrupt:
            # queued here, since Optuna marks the trial as failed and does not repeat it
            failed = study.get_trials()[trial.number]
            study.enqueue_trial(failed.system_attrs.get("fixed_params", {}) | failed.params, failed.user_attrs)
            raise

    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storages.fail_stale_trials(study)
        trials = study.get_trials(deepcopy=False)
        n_finished = sum(trial.state in FINISHED for trial in trials)
        # a trial without a worker's name may have lost its worker before the first heartbeat, and would count for ever
        n_running = sum(trial.state == TrialState.RUNNING and "worker" in trial.user_attrs for trial in trials)
        if n_finished + n_running < n_trials:
            study.optimize(run, n_trials=1, gc_after_trial=True)
        elif n_finished < n_trials and isinstance(study._storage, BaseHeartbeat):
            time.sleep(POLL)
        else:
            return


def find_trial(study: optuna.Study, number: int | None = None) -> FrozenTrial:
    """
    :param study: The study
    :param number: The number of a trial, by default the first of the best trials (Optuna returns any of them)
    :return: The trial
    :raises ValueError: If the study does not have the trial, or the trial has no parameters yet
    """
    trials = study.get_trials(deepcopy=False)
    if number is None and (complete := [trial for trial in trials if trial.state == TrialState.COMPLETE]):
        return max(complete, key=lambda trial: trial.values[0])
    for trial in trials:
        if trial.number == number and trial.params:
            return trial
    which = "complete trial" if number is None else f"trial {number} with parameters"
    raise ValueError(f"The study {study.study_name} has no {which} among its {len(trials)} trials.")


def describe(study: optuna.Study) -> str:
    """
    :param study: The study
    :return: The number of trials in each state, the best trial, and the most frequent failures
    """
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state.name.lower() for trial in trials)
    failures = Counter(trial.user_attrs["failure"] for trial in trials if "failure" in trial.user_attrs)
    lines = [f"Study {study.study_name}: {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}."]
    if states["complete"]:
        best = find_trial(study)
        lines.append(f"Best: trial {best.number}, value {best.value!r}, seed {best.user_attrs.get('seed')}.")
    return "\n".join([*lines, *(f"{count} failed: {failure}" for failure, count in failures.most_common(3))])
