"""
Faults of rl_zoo3 2.9.2, and of what it imports, that keep a script from working with ``lwm_dqn`` or with anything.

Each function is for one of them, names it, and changes nothing where it has been mended. Those of the class
``ExperimentManager``, which every script needs, are applied when the algorithm is registered, the others by
``python -m sb3_lwm.zoo`` only.
"""

import argparse
import atexit
import contextlib
import functools
import importlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub.repocard
import huggingface_sb3
import numpy as np
import requests
import rl_zoo3.utils
from filelock import FileLock, Timeout
from huggingface_hub.errors import EntryNotFoundError

# Choosing the folder of a run takes milliseconds, on a slow network disk with many at once perhaps some seconds.
LOCK_TIMEOUT = 60.0


class MissingFileError(EntryNotFoundError, requests.HTTPError):
    """A repository on the hub does not have the file."""


def give_runs_folders_of_their_own(experiment_manager: Any) -> None:
    """
    rl_zoo3 2.9.2: runs that start at the same moment write into one folder, whatever the algorithm.

    :param experiment_manager: the class ``ExperimentManager``, changed in place
    """
    create_log_folder = experiment_manager.create_log_folder

    @functools.wraps(create_log_folder)
    def create_own_log_folder(self: Any) -> None:
        os.makedirs(self.log_path, exist_ok=True)
        with _locked(os.path.join(self.log_path, ".run_numbers.lock")):
            if os.path.exists(self.save_path):
                number = rl_zoo3.utils.get_latest_run_id(self.log_path, self.env_name) + 1
                self.save_path = os.path.join(self.log_path, f"{self.env_name}_{number}")
                self.params_path = f"{self.save_path}/{self.env_name}"
            create_log_folder(self)
            self.has_new_log_folder = True

    experiment_manager.create_log_folder = create_own_log_folder


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """
    Hold a lock, or go on without and warn where there can be none.

    :param path: of the lock's file, which stays
    :raises TimeoutError: if somebody else holds it for longer than starting a run can take
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_TIMEOUT)
    except Timeout:
        raise TimeoutError(
            f"Another process has held {path} for {LOCK_TIMEOUT:.0f} seconds, while it chose the folder of its run: end it "
            "(`fuser` names it), or choose another folder of logs (-f)."
        ) from None
    except (OSError, NotImplementedError) as error:
        warnings.warn(
            f"{path} cannot be locked ({error!r}): runs of one environment that start at the same moment may write into one "
            "folder. Start them one after another, or with --uuid.",
            stacklevel=3,
        )
    try:
        yield
    finally:
        lock.release()


def remove_folders_of_runs_that_never_began(experiment_manager: Any, algorithm: str) -> None:
    """
    rl_zoo3 2.9.2: a run that fails before it begins leaves an empty folder, which ``enjoy`` then takes for the latest run.

    :param experiment_manager: the class ``ExperimentManager``, changed in place by :func:`give_runs_folders_of_their_own`
    :param algorithm: the one whose runs these are
    """
    setup_experiment = experiment_manager.setup_experiment

    @functools.wraps(setup_experiment)
    def setup_experiment_or_clean_up(self: Any) -> Any:
        try:
            return setup_experiment(self)
        except BaseException:
            if self.algo == algorithm and getattr(self, "has_new_log_folder", False):
                shutil.rmtree(self.save_path, ignore_errors=True)
            raise

    experiment_manager.setup_experiment = setup_experiment_or_clean_up


def pass_env_kwargs_to_the_evaluation(experiment_manager: Any, algorithm: str) -> None:
    """
    rl_zoo3 2.9.2: ``env_kwargs`` of a yml do not reach the evaluation.

    :param experiment_manager: the class ``ExperimentManager``, changed in place
    :param algorithm: the one whose runs these are
    """
    preprocess_hyperparams = experiment_manager._preprocess_hyperparams

    @functools.wraps(preprocess_hyperparams)
    def preprocess_evaluation_too(self: Any, hyperparams: dict[str, Any]) -> Any:
        preprocessed = preprocess_hyperparams(self, hyperparams)
        if self.algo == algorithm and not self.eval_env_kwargs:
            self.eval_env_kwargs = self.env_kwargs
        return preprocessed

    experiment_manager._preprocess_hyperparams = preprocess_evaluation_too


def pass_env_kwargs_of_the_yml() -> None:
    """rl_zoo3 2.9.2: record_video and push_to_hub forget the ``env_kwargs`` of a yml; ``enjoy`` takes them out itself."""
    original = rl_zoo3.utils.create_test_env

    @functools.wraps(original)
    def create_test_env(*args: Any, **kwargs: Any) -> Any:
        of_the_yml = (kwargs.get("hyperparams") or {}).pop("env_kwargs", None) or {}
        return original(*args, **{**kwargs, "env_kwargs": {**of_the_yml, **(kwargs.get("env_kwargs") or {})}})

    rl_zoo3.utils.create_test_env = create_test_env
    # the package has imported it by name
    rl_zoo3.create_test_env = create_test_env


def require_a_run() -> None:
    """rl_zoo3 2.9.2: where there is no run, record_training ends well without a video."""
    original = rl_zoo3.utils.get_latest_run_id

    @functools.wraps(original)
    def get_latest_run_id(log_path: str, env_name: str) -> int:
        number = original(log_path, env_name)
        if number == 0:
            raise ValueError(f"{log_path} has no run of {env_name}: train one, or name the folder of its logs with -f.")
        return number

    rl_zoo3.utils.get_latest_run_id = get_latest_run_id


def make_output_folder_absolute() -> None:
    """rl_zoo3 2.9.2: record_training gives ffmpeg the paths of the videos as if they were relative to their own folder."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--output-folder")
    options, others = parser.parse_known_args(sys.argv[1:])
    if options.output_folder is not None:
        sys.argv[1:] = [*others, "--output-folder", os.path.abspath(options.output_folder)]


def require_results() -> None:
    """rl_zoo3 2.9.2: plot_from_file ends in an IndexError or KeyError if all_plots had too little to gather."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-i", "--input")
    # or it would be -i with the value qm
    parser.add_argument("-iqm", "--iqm", action="store_true")
    path = parser.parse_known_args(sys.argv[1:])[0].input
    if path is None:
        return
    path = path if path.endswith(".pkl") else f"{path}.pkl"
    with open(path, "rb") as file:
        results = pickle.load(file)
    needed = "it takes at least 2 runs with 2 evaluations of 2 episodes each (--eval-freq, --eval-episodes)"
    gathered = {env: algorithms for env, algorithms in results.items() if env != "results_table"}
    names = {name for algorithms in gathered.values() for name in algorithms}
    for env, algorithms in gathered.items():
        if not names or (missing := names - algorithms.keys()):
            what = ", ".join(sorted(missing)) if names else "anything"
            raise ValueError(f"{path} has no results of {what} on {env}: {needed}.")
        for name, result in algorithms.items():
            if np.ndim(result["last_evals"]) == 0:
                raise ValueError(f"{path} has too little of {name} on {env}: {needed}.")


def run_children_through_this_entry() -> None:
    """
    rl_zoo3 2.9.2: benchmark calls ``python enjoy.py``, which is there in a checkout of rl_zoo3 only; record_training calls
    ``python -m rl_zoo3.record_video``, whatever ``python`` is, and lets it find ``lwm_dqn`` by itself.
    """
    original = subprocess.call

    @functools.wraps(original)
    def call(command: Sequence[str], *args: Any, **kwargs: Any) -> int:
        return original(_through_this_entry(command), *args, **kwargs)

    subprocess.call = call  # type: ignore[assignment]


def _through_this_entry(command: Sequence[str]) -> Sequence[str]:
    if isinstance(command, list):
        entry = [sys.executable, "-m", "sb3_lwm.zoo"]
        if command[:2] == ["python", "enjoy.py"]:
            return [*entry, "enjoy", *command[2:]]
        if command[:3] == ["python", "-m", "rl_zoo3.record_video"]:
            return [*entry, "record_video", *command[3:]]
    return command


def provide_ffmpeg() -> None:
    """
    rl_zoo3 2.9.2: record_training and push_to_hub call ``ffmpeg`` and do not look whether it is there. The one that moviepy,
    with which the videos are recorded, brings along serves as well.

    :raises FileNotFoundError: if there is none
    """
    if shutil.which("ffmpeg") is not None:
        return
    try:
        program = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise FileNotFoundError("This needs the program ffmpeg: install it, or `pip install imageio-ffmpeg`.") from None
    folder = tempfile.mkdtemp(prefix="sb3_lwm_ffmpeg_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.symlink(program, os.path.join(folder, "ffmpeg"))
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])


def provide_model_card_metadata() -> None:
    """
    rl_zoo3 2.9.2 with sb3-team-hf-integration 3.2: push_to_hub imports ``generate_metadata``, which has become private and
    returns an object instead of the dictionary that the Zoo writes.
    """
    hub: Any = importlib.import_module("huggingface_sb3.push_to_hub")
    if not hasattr(hub, "generate_metadata"):
        hub.generate_metadata = lambda *args, **kwargs: hub._generate_metadata(*args, **kwargs).to_dict()


def name_this_entry_on_the_model_card() -> None:
    """rl_zoo3 2.9.2: the model card tells to install rl_zoo3 and run its scripts, which do not know ``lwm_dqn``."""
    original = huggingface_hub.repocard.metadata_save

    @functools.wraps(original)
    def metadata_save(local_path: str | Path, data: dict[str, Any]) -> None:
        card = Path(local_path)
        text = card.read_text(encoding="utf-8")
        if "--algo lwm_dqn" in text:
            text = text.replace("python -m rl_zoo3.", "python -m sb3_lwm.zoo ").replace(
                "pip install rl_zoo3", "pip install sb3-lwm"
            )
            card.write_text(text, encoding="utf-8")
        original(local_path, data)

    huggingface_hub.repocard.metadata_save = metadata_save


def report_missing_files() -> None:
    """
    rl_zoo3 2.9.2 with huggingface_hub >= 1: load_from_hub expects the ``HTTPError`` of requests where a repository has no
    ``vec_normalize.pkl``, but the hub's errors are no longer of that class.
    """
    original = huggingface_sb3.load_from_hub

    @functools.wraps(original)
    def load_from_hub(repo_id: str, filename: str) -> str:
        try:
            return original(repo_id, filename)
        except EntryNotFoundError as error:
            if isinstance(error, requests.HTTPError):
                raise
            raise MissingFileError(str(error)) from error

    huggingface_sb3.load_from_hub = load_from_hub
