"""The Zoo's ExperimentManager with the work-arounds: each does what it is for, and nothing where upstream has been mended."""

import errno
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from sb3_lwm.zoo import workarounds


class Manager:
    """What the work-arounds touch of rl_zoo3's ExperimentManager."""

    def __init__(self, folder: Path, algo: str = "lwm_dqn") -> None:
        self.algo = algo
        self.env_name = "POL-3x3-v0"
        self.log_path = f"{folder}/{algo}/"
        self.save_path = os.path.join(self.log_path, "POL-3x3-v0_1")
        self.params_path = f"{self.save_path}/POL-3x3-v0"
        self.env_kwargs: dict[str, Any] = {}
        self.eval_env_kwargs: dict[str, Any] = {}

    def create_log_folder(self) -> None:
        os.makedirs(self.params_path, exist_ok=True)

    def setup_experiment(self) -> None:
        self.create_log_folder()
        raise ValueError("cannot work")

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> str:
        self.env_kwargs = hyperparams["env_kwargs"]
        return "preprocessed"


def mended(cls: type[Manager]) -> type[Manager]:
    """
    :param cls: a class
    :return: a subclass with the work-arounds
    """
    subclass = type("Mended", (cls,), {})
    workarounds.give_runs_folders_of_their_own(subclass)
    workarounds.remove_folders_of_runs_that_never_began(subclass, "lwm_dqn")
    workarounds.pass_env_kwargs_to_the_evaluation(subclass, "lwm_dqn")
    return subclass


def test_runs_that_start_together_get_folders_of_their_own(tmp_path: Path) -> None:
    managers = [mended(Manager)(tmp_path) for _ in range(8)]
    threads = [threading.Thread(target=manager.create_log_folder) for manager in managers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = sorted(int(manager.save_path.split("_")[-1]) for manager in managers)
    assert numbers == list(range(1, 9))
    assert all(Path(manager.params_path).parent == Path(manager.save_path) for manager in managers)
    assert all(Path(manager.params_path).is_dir() for manager in managers)


def test_a_lock_that_somebody_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workarounds, "LOCK_TIMEOUT", 0.1)
    manager = mended(Manager)(tmp_path)
    os.makedirs(manager.log_path)
    path = os.path.join(manager.log_path, ".run_numbers.lock")
    with FileLock(path), pytest.raises(TimeoutError, match=rf"held {re.escape(path)} for 0 seconds.*end it.*\(-f\)"):
        manager.create_log_folder()
    # the file of one that was killed holds nothing
    manager.create_log_folder()
    assert Path(manager.params_path).is_dir() and Path(path).exists()


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(self: Any, **_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    manager = mended(Manager)(tmp_path)
    with pytest.warns(UserWarning, match=r"run_numbers\.lock cannot be locked \(.*No locks available.*--uuid"):
        manager.create_log_folder()
    assert Path(manager.params_path).is_dir()


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    run, other = mended(Manager)(tmp_path), mended(Manager)(tmp_path, algo="dqn")
    for manager in (run, other):
        with pytest.raises(ValueError, match="cannot work"):
            manager.setup_experiment()
    assert not Path(run.save_path).exists() and Path(other.save_path).exists()
    # one that fails before it has a folder takes nobody else's
    earlier = mended(Manager)(tmp_path)
    earlier.create_log_folder()
    hasty = type("Hasty", (Manager,), {"setup_experiment": lambda self: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        mended(hasty)(tmp_path).setup_experiment()
    assert Path(earlier.save_path).exists()


def test_settings_of_the_environment_reach_its_evaluation(tmp_path: Path) -> None:
    run, other = mended(Manager)(tmp_path), mended(Manager)(tmp_path, algo="dqn")
    for manager in (run, other):
        assert manager._preprocess_hyperparams({"env_kwargs": {"size": 2}}) == "preprocessed"
    assert (run.eval_env_kwargs, other.eval_env_kwargs) == ({"size": 2}, {})


def test_a_mended_experiment_manager_decides_itself(tmp_path: Path) -> None:
    class Better(Manager):
        def create_log_folder(self) -> None:
            self.save_path = os.path.join(self.log_path, "of_its_own")
            os.makedirs(self.save_path)

        def setup_experiment(self) -> str:
            self.create_log_folder()
            return "model"

        def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> str:
            self.eval_env_kwargs = {"size": 5}
            return super()._preprocess_hyperparams(hyperparams)

    manager = mended(Better)(tmp_path)
    manager._preprocess_hyperparams({"env_kwargs": {"size": 2}})
    assert manager.setup_experiment() == "model"
    assert (Path(manager.save_path).name, manager.eval_env_kwargs) == ("of_its_own", {"size": 5})
