"""
Fixes of faults in rl_zoo3 2.9.2 and the packages that it imports, except for those in the class ``ExperimentManager`` that
:mod:`sb3_lwm.zoo.experiment` corrects for ``lwm_dqn``.

Each function corrects one fault, which its docstring describes, and changes nothing if the fault has been fixed.
``python -m sb3_lwm.zoo`` applies them to the scripts that need them.
"""

import argparse
import atexit
import functools
import importlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub.repocard
import huggingface_sb3
import numpy as np
import requests
import rl_zoo3.utils
from huggingface_hub.errors import EntryNotFoundError
from rl_zoo3.exp_manager import ExperimentManager

from sb3_lwm.zoo.experiment import claim_log_folder


def _wrap(module: ModuleType, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace a function of a module by ``wrapper``, which gets the original function as its first argument."""
    setattr(module, name, functools.partial(wrapper, getattr(module, name)))


class MissingFileError(EntryNotFoundError, requests.HTTPError):
    """Raised if a repository on the hub does not have the file."""


def give_runs_folders_of_their_own() -> None:
    """
    rl_zoo3 2.9.2: trainings that start at the same moment, such as those of ``seeds``, write into one folder. Trainings of
    ``lwm_dqn`` never do; this function is for the other algorithms.
    """
    ExperimentManager.create_log_folder = claim_log_folder  # type: ignore[method-assign]


def pass_env_kwargs_of_the_yml() -> None:
    """rl_zoo3 2.9.2: record_video and push_to_hub ignore the ``env_kwargs`` of a yml, unlike ``enjoy``."""

    def create_test_env(original: Any, *args: Any, **kwargs: Any) -> Any:
        of_the_yml = (kwargs.get("hyperparams") or {}).pop("env_kwargs", None) or {}
        return original(*args, **{**kwargs, "env_kwargs": {**of_the_yml, **(kwargs.get("env_kwargs") or {})}})

    # in both, since the package has imported the function by name
    for module in (rl_zoo3.utils, rl_zoo3):
        _wrap(module, "create_test_env", create_test_env)


def require_a_run() -> None:
    """rl_zoo3 2.9.2: without a run, record_training succeeds but makes no video."""

    def get_latest_run_id(original: Any, log_path: str, env_name: str) -> int:
        number = original(log_path, env_name)
        if number == 0:
            raise ValueError(f"{log_path} has no run of {env_name}: train one, or name the folder of its logs with -f.")
        return number

    _wrap(rl_zoo3.utils, "get_latest_run_id", get_latest_run_id)


def make_output_folder_absolute() -> None:
    """rl_zoo3 2.9.2: record_training passes paths of videos to ffmpeg that ffmpeg reads relative to the videos' folder."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--output-folder")
    options, others = parser.parse_known_args(sys.argv[1:])
    if options.output_folder is not None:
        sys.argv[1:] = [*others, "--output-folder", os.path.abspath(options.output_folder)]


def require_results() -> None:
    """rl_zoo3 2.9.2: plot_from_file raises an IndexError or KeyError if all_plots has gathered too few results."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-i", "--input")
    # defined here, since argparse would read -iqm as -i with the value qm
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
                raise ValueError(f"{path} has too few results of {name} on {env}: {needed}.")


def run_children_through_this_entry() -> None:
    """
    rl_zoo3 2.9.2: benchmark calls ``python enjoy.py``, which exists only in a checkout of rl_zoo3; record_training calls
    ``python -m rl_zoo3.record_video``, possibly with another Python, and without registering ``lwm_dqn``.
    """
    entry = [sys.executable, "-m", "sb3_lwm.zoo"]

    def call(original: Any, command: Sequence[str], *args: Any, **kwargs: Any) -> int:
        if command[:2] == ["python", "enjoy.py"]:
            command = [*entry, "enjoy", *command[2:]]
        elif command[:3] == ["python", "-m", "rl_zoo3.record_video"]:
            command = [*entry, "record_video", *command[3:]]
        return original(command, *args, **kwargs)

    _wrap(subprocess, "call", call)


def provide_ffmpeg() -> None:
    """
    rl_zoo3 2.9.2: record_training and push_to_hub call ``ffmpeg`` without checking that it is installed. If it is not, the
    program of imageio-ffmpeg is used, which moviepy installs for recording videos.

    :raises FileNotFoundError: If neither is installed
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
    rl_zoo3 2.9.2 with sb3-team-hf-integration 3.2: push_to_hub imports ``generate_metadata``, which is now private and
    returns an object instead of the dictionary that the Zoo writes.
    """
    hub: Any = importlib.import_module("huggingface_sb3.push_to_hub")
    if not hasattr(hub, "generate_metadata"):
        hub.generate_metadata = lambda *args, **kwargs: hub._generate_metadata(*args, **kwargs).to_dict()


def name_this_entry_on_the_model_card() -> None:
    """rl_zoo3 2.9.2: the model card names the scripts of rl_zoo3, which do not have ``lwm_dqn``."""

    def metadata_save(original: Any, local_path: str | Path, data: dict[str, Any]) -> None:
        card = Path(local_path)
        text = card.read_text(encoding="utf-8")
        if "--algo lwm_dqn" in text:
            text = text.replace("python -m rl_zoo3.", "python -m sb3_lwm.zoo ").replace(
                "pip install rl_zoo3", "pip install sb3-lwm"
            )
            card.write_text(text, encoding="utf-8")
        original(local_path, data)

    _wrap(huggingface_hub.repocard, "metadata_save", metadata_save)


def report_missing_files() -> None:
    """
    rl_zoo3 2.9.2 with huggingface_hub >= 1: load_from_hub expects the ``HTTPError`` of requests if a repository has no
    ``vec_normalize.pkl``, but the hub raises errors of another class.
    """

    def load_from_hub(original: Any, repo_id: str, filename: str) -> str:
        try:
            return original(repo_id, filename)
        except EntryNotFoundError as error:
            if isinstance(error, requests.HTTPError):
                raise
            raise MissingFileError(str(error)) from error

    _wrap(huggingface_sb3, "load_from_hub", load_from_hub)
