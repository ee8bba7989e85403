"""What several tests of sweeps share: a short command, processes that join a study at once, Optuna's gRPC proxy."""

import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import get_storage
from optuna.storages._grpc.server import make_server

from sb3_lwm.zoo.sweep.study import create_or_join, open_storage

TINY = [
    *("learning_starts:100", "buffer_size:1000", "batch_size:4", "burn_in:2", "unroll:6", "train_freq:2"),
    *("pretraining_updates:2", "pretraining_batch_size:4", "pretraining_sequence_length:8"),
]
STUDY = ["--storage", "sqlite:///study.db", "--study-name", "mine"]
# episodes of CartPole are short, and their scores differ
SWEEP = [
    *(*STUDY, "--env", "CartPole-v1", "-n", "240", "--eval-episodes", "4", "--n-eval-envs", "2", "--n-evaluations", "2"),
    *("--pruner", "none", "--seed", "3", "--n-trials", "3", "--heartbeat", "5", "--optimization-log-path", "trials"),
    *("-params", *TINY),
]


@contextmanager
def grpc_proxy(folder: Path) -> Iterator[str]:
    """
    :param folder: The folder of the database behind the proxy
    :return: The URL of a proxy in this process
    """
    pytest.importorskip("grpc", reason="needs the extra 'sweeps'")
    server = make_server(get_storage(f"sqlite:///{folder}/behind.db"), "localhost", 0, ThreadPoolExecutor(2))
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"grpc://localhost:{port}"
    server.stop(None).wait()


def start(function: Callable[..., None], *args: Any) -> multiprocessing.Process:
    """
    :param function: The function that a forked process calls, which then has torch already
    :param args: Its arguments
    :return: The process
    """
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    with warnings.catch_warnings():
        # pytest-xdist has threads
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        process.start()
    return process


def _join(url: str, barrier: Any, results: Any) -> None:
    barrier.wait()
    try:
        study = create_or_join(open_storage(url), "mine", {"seed": 0})
        results.put((study.study_name, study.direction.name, dict(study.user_attrs)))
    except BaseException as error:
        results.put(repr(error))
        raise


def join_at_once(url: str, n_processes: int) -> list[Any]:
    """
    :param url: The URL of an empty storage
    :param n_processes: The number of processes that create or join one study at the same moment
    :return: The study as each of them sees it, or its error
    """
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(n_processes), context.Queue()
    processes = [start(_join, url, barrier, results) for _ in range(n_processes)]
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return found


JOINED = ("mine", "MAXIMIZE", {"lwm_sweep": {"seed": 0}})
