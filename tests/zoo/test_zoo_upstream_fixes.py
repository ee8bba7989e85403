"""Each fix does what it is for, and nothing where upstream has been mended."""

import importlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.repocard
import huggingface_sb3
import numpy as np
import pytest
import requests
import rl_zoo3
import rl_zoo3.utils
from huggingface_hub.errors import EntryNotFoundError
from rl_zoo3.exp_manager import ExperimentManager

from sb3_lwm.zoo import upstream_fixes

# --- Scripts ---


def test_trainings_of_other_algorithms_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExperimentManager, "create_log_folder", ExperimentManager.create_log_folder)
    upstream_fixes.give_runs_folders_of_their_own()
    # each has chosen a number before any has a folder
    managers = [ExperimentManager(None, algo, "CartPole-v1", str(tmp_path)) for algo in ("ppo", "ppo", "lwm_dqn", "lwm_dqn")]
    for manager in managers:
        manager.create_log_folder()
    assert [Path(manager.save_path).name for manager in managers] == ["CartPole-v1_1", "CartPole-v1_2"] * 2
    assert all(Path(manager.params_path).is_dir() for manager in managers)


@pytest.mark.parametrize(
    ("hyperparams", "given", "expected"),
    [
        ({"env_kwargs": {"size": 2, "a": 1}}, {"size": 3}, {"size": 3, "a": 1}),
        ({}, {"size": 3}, {"size": 3}),  # as a script that takes them out itself
        ({"env_kwargs": None}, None, {}),
    ],
)
def test_env_kwargs_of_the_yml(
    hyperparams: dict[str, Any], given: Any, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (rl_zoo3, rl_zoo3.utils):
        monkeypatch.setattr(module, "create_test_env", lambda env_id, **kwargs: (env_id, kwargs))
    upstream_fixes.pass_env_kwargs_of_the_yml()
    for module in (rl_zoo3, rl_zoo3.utils):
        env_id, kwargs = module.create_test_env("POL-3x3-v0", n_envs=1, hyperparams={**hyperparams}, env_kwargs=given)
        assert (env_id, kwargs) == ("POL-3x3-v0", {"n_envs": 1, "hyperparams": {}, "env_kwargs": expected})


def test_a_run_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rl_zoo3.utils, "get_latest_run_id", rl_zoo3.utils.get_latest_run_id)
    upstream_fixes.require_a_run()
    with pytest.raises(ValueError, match=r"has no run of POL-3x3-v0: train one, or name the folder of its logs with -f"):
        rl_zoo3.utils.get_latest_run_id(str(tmp_path), "POL-3x3-v0")
    (tmp_path / "POL-3x3-v0_3").mkdir()
    assert rl_zoo3.utils.get_latest_run_id(str(tmp_path), "POL-3x3-v0") == 3


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python", "enjoy.py", "-n", "5"], [sys.executable, "-m", "sb3_lwm.zoo", "enjoy", "-n", "5"]),
        (["python", "-m", "rl_zoo3.record_video", "-g"], [sys.executable, "-m", "sb3_lwm.zoo", "record_video", "-g"]),
        ([sys.executable, "-m", "rl_zoo3.enjoy", "-n", "5"], [sys.executable, "-m", "rl_zoo3.enjoy", "-n", "5"]),
        ("python enjoy.py", "python enjoy.py"),
    ],
)
def test_children(command: Any, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(subprocess, "call", lambda command, **kwargs: calls.append((command, kwargs)) or 3)
    upstream_fixes.run_children_through_this_entry()
    assert subprocess.call(command, shell=False) == 3
    assert calls == [(expected, {"shell": False})]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-o", "videos", "-n", "5"], ["-n", "5", "--output-folder", os.path.abspath("videos")]),
        (["-o", "/videos"], ["--output-folder", "/videos"]),
        (["-n", "5"], ["-n", "5"]),
    ],
)
def test_output_folder(given: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["record_training", *given])
    upstream_fixes.make_output_folder_absolute()
    assert sys.argv[1:] == expected


def test_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[str] = []
    monkeypatch.setattr(upstream_fixes.atexit, "register", lambda _, folder, **__: registered.append(folder))
    (tmp_path / "ffmpeg").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    upstream_fixes.provide_ffmpeg()
    assert os.environ["PATH"] == str(tmp_path) and not registered
    (tmp_path / "ffmpeg").unlink()
    upstream_fixes.provide_ffmpeg()
    program = shutil.which("ffmpeg")
    assert program is not None and registered == [str(Path(program).parent)]
    shutil.rmtree(registered[0])
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # the import system then raises ImportError
    with pytest.raises(FileNotFoundError, match=r"needs the program ffmpeg: install it, or `pip install imageio-ffmpeg`"):
        upstream_fixes.provide_ffmpeg()


def write_results(path: Path, results: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps({"results_table": {}, **results}))


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"POL": {}}, r"no results of anything on POL: it takes at least 2 runs with 2 evaluations of 2 episodes each"),
        ({"POL": {"A": {"last_evals": np.ones(2)}}, "Cart": {}}, r"no results of A on Cart: it takes"),
        ({"POL": {"A": {"last_evals": np.float64(1.0)}}}, r"too few results of A on POL: it takes"),
        ({"POL": {"A": {"last_evals": np.ones(2)}}}, None),
    ],
)
def test_results_to_plot(
    results: dict[str, Any], message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(tmp_path / "scores.pkl", results)
    monkeypatch.setattr(sys, "argv", ["plot_from_file", "-i", str(tmp_path / "scores"), "-iqm", "-r"])
    if message is None:
        upstream_fixes.require_results()
    else:
        with pytest.raises(ValueError, match=message):
            upstream_fixes.require_results()
    assert sys.argv[1:] == ["-i", str(tmp_path / "scores"), "-iqm", "-r"]


# --- The hub ---


def test_metadata_of_the_model_card(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = importlib.import_module("huggingface_sb3.push_to_hub")
    monkeypatch.delattr(hub, "generate_metadata", raising=False)
    upstream_fixes.provide_model_card_metadata()
    metadata = hub.generate_metadata("LWMDQN", "POL-3x3-v0", -11.0, 0.5)
    monkeypatch.delattr(hub, "generate_metadata")
    assert isinstance(metadata, dict) and metadata["model-index"][0]["name"] == "LWMDQN"
    original = object()
    monkeypatch.setattr(hub, "generate_metadata", original, raising=False)
    upstream_fixes.provide_model_card_metadata()
    assert hub.generate_metadata is original


def test_commands_on_the_model_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(huggingface_hub.repocard, "metadata_save", lambda *args: saved.append(args))
    upstream_fixes.name_this_entry_on_the_model_card()
    card = tmp_path / "README.md"
    for algorithm, command in (("lwm_dqn", "sb3_lwm.zoo enjoy"), ("dqn", "rl_zoo3.enjoy")):
        card.write_text(f"python -m rl_zoo3.enjoy --algo {algorithm}")
        huggingface_hub.repocard.metadata_save(card, {"tags": []})
        assert card.read_text() == f"python -m {command} --algo {algorithm}"
    assert saved == [(card, {"tags": []})] * 2


def test_missing_files_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldError(EntryNotFoundError, requests.HTTPError):
        """As huggingface_hub raised it before version 1."""

    errors: list[Exception] = [EntryNotFoundError("no such file"), OldError("no such file"), OSError("no network")]

    def load_from_hub(repo_id: str, filename: str) -> str:
        if errors:
            raise errors[0]
        return f"{repo_id}/{filename}"

    monkeypatch.setattr(huggingface_sb3, "load_from_hub", load_from_hub)
    upstream_fixes.report_missing_files()
    # by the class that rl_zoo3 2.9.2 expects, and by that which a mended one will
    for expected in (requests.HTTPError, EntryNotFoundError):
        with pytest.raises(expected, match="no such file"):
            huggingface_sb3.load_from_hub("somebody/model", "vec_normalize.pkl")
    for error in errors[1:]:
        errors.pop(0)
        with pytest.raises(type(error)) as raised:
            huggingface_sb3.load_from_hub("somebody/model", "vec_normalize.pkl")
        assert raised.value is error
    errors.clear()
    assert huggingface_sb3.load_from_hub("somebody/model", "config.yml") == "somebody/model/config.yml"
