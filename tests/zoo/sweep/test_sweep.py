"""Sweeps by their commands: two workers, the report, the best trial trained again to the same score, the Zoo's own mode."""

import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from helpers import changed, weights
from optuna.trial import TrialState
from rl_zoo3.exp_manager import ExperimentManager
from sweep_helpers import STUDY, SWEEP, TINY
from zoo_commands import SHORT_EPISODES, Installation, made_once

from sb3_lwm import LWMDQN
from sb3_lwm.zoo.sweep import __main__ as sweep
from sb3_lwm.zoo.sweep import report
from sb3_lwm.zoo.sweep.study import find_trial, load_study, open_storage

Zoo = Callable[..., int]

JOIN = ["-conf", "my_settings", *SWEEP]
needs_plotly = pytest.mark.skipif(importlib.util.find_spec("plotly") is None, reason="needs the extra 'sweeps'")


@pytest.fixture(scope="module")
def swept(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a sweep with two workers, whose settings are in a module."""

    def run(cwd: Path) -> None:
        block = {
            "policy": "MlpPolicy",
            "n_timesteps": 900,
            "n_envs": 2,
            "learning_rate": 1e-3,
            "policy_kwargs": {"net_arch": (16, 16)},
        }
        (cwd / "my_settings.py").write_text(f"hyperparams = {{'CartPole-v1': {block}, 'Pendulum-v1': {block}}}")
        output = installation.run(cwd, "-m", "sb3_lwm.zoo", "sweep", "--workers", "2", *JOIN)
        # the parent's summary once, and Optuna's log of the workers
        assert output.count("Study mine: 3 complete.") == 1
        assert len(re.findall(r"Trial \d finished with value", output)) == 3

    return made_once(tmp_path_factory, "sweep", run)


@pytest.fixture
def swept_copy(swept: Path, tmp_path: Path) -> Path:
    for name in ("study.db", "my_settings.py"):
        shutil.copy(swept / name, tmp_path)
    return tmp_path


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Zoo:
    """Run a command in this process, where it need not import torch."""

    def call(main: Callable[[], None], *arguments: str, cwd: Path) -> int:
        monkeypatch.chdir(cwd)
        monkeypatch.syspath_prepend(cwd)
        # the module of another working directory
        monkeypatch.delitem(sys.modules, "my_settings", raising=False)
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def study_of(cwd: Path) -> optuna.Study:
    return load_study(f"sqlite:///{cwd}/study.db", "mine")


# --- sweep ---


def test_two_workers(swept: Path) -> None:
    study = study_of(swept)
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert [trial.user_attrs["seed"] for trial in study.trials] == [3, 4, 5]
    # the workers do not sample the same values
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 3
    # what -params fixes is not searched
    assert not {"burn_in", "unroll_pow", "batch_size_pow"} & set(study.trials[0].params)
    settings = study.user_attrs["lwm_sweep"]["hyperparams"]
    assert (settings["n_envs"], settings["learning_rate"], settings["policy_kwargs"]) == (2, 1e-3, {"net_arch": [16, 16]})
    assert (settings["n_timesteps"], settings["burn_in"]) == (240, 2)
    # the evaluations are the Zoo's
    with np.load(swept / "trials/trial_0/evaluations.npz") as evaluations:
        assert evaluations["results"].shape == (2, 4)


def test_the_same_command_changes_nothing(zoo: Zoo, swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo(sweep.main, *JOIN, cwd=swept) == 0
    assert re.search(r"Study mine: 3 complete\.\nBest: trial \d, value \d+\.\d+, seed \d\.\n$", capsys.readouterr().out)


def test_a_study_is_resumed_with_more_trials(zoo: Zoo, swept_copy: Path) -> None:
    assert zoo(sweep.main, *JOIN, "--n-trials", "4", cwd=swept_copy) == 0
    trials = study_of(swept_copy).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert [trial.user_attrs["seed"] for trial in trials] == [3, 4, 5, 6]
    assert trials[3].user_attrs["worker"] not in {trial.user_attrs["worker"] for trial in trials[:3]}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["-n", "500"], ValueError, r"mine has other settings \(hyperparams: .* here\): repeat its command"),
        (["--heartbeat", "1"], ValueError, "heartbeat: 5 there, 1 here"),
        (["--env", "CartPole-v7"], ValueError, r"CartPole-v7 not found in gym registry"),
        (["--env", "Pendulum-v1"], AssertionError, "The algorithm only supports .*Discrete"),
        (["-params", "n_steps:40"], ValueError, "n_steps=40 must be smaller than unroll=32"),
        (["-params", "buffer_size:10**13"], MemoryError, "Use buffer_size <="),
        (["-params", "policy_kwargs:'dict(net_arch=[8])'"], ValueError, "without Python code: policy_kwargs is a string"),
        (
            ["-params", "policy_kwargs:dict(activation_fn=th.nn.Tanh)"],
            ValueError,
            "without Python code: .*type",
        ),
        (["--storage", "study"], ConnectionError, "--storage study cannot be opened"),
    ],
)
def test_bad_input(zoo: Zoo, swept_copy: Path, arguments: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        zoo(sweep.main, *JOIN, *arguments, cwd=swept_copy)
    assert len(study_of(swept_copy).trials) == 3


def test_no_trial_is_completed(
    zoo: Zoo, swept_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prune(manager: Any, trial: optuna.Trial) -> float:
        raise optuna.TrialPruned

    monkeypatch.setattr(ExperimentManager, "objective", prune)
    assert zoo(sweep.main, *JOIN, "--study-name", "pruned", "--n-trials", "1", cwd=swept_copy) == 1
    assert "Study pruned: 1 pruned.\n" in capsys.readouterr().out


def test_workers_end_with_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[subprocess.Popen[bytes]] = []

    popen = subprocess.Popen

    def start(command: list[str], **kwargs: Any) -> subprocess.Popen[bytes]:
        assert command[1:] == ["-m", "sb3_lwm.zoo", "sweep", "--env", "CartPole-v1", "--workers", "1"]
        workers.append(popen([sys.executable, "-c", "import time; time.sleep(600)"], stderr=subprocess.DEVNULL, **kwargs))
        return workers[-1]

    def fail(seconds: float) -> None:
        raise OSError("no clock")

    monkeypatch.setattr(sys, "argv", ["sweep", "--env", "CartPole-v1"])
    monkeypatch.setattr(sweep, "handle_interruptions", lambda handler: None)
    monkeypatch.setattr(sweep.subprocess, "Popen", start)
    monkeypatch.setattr(sweep, "time", SimpleNamespace(sleep=fail))
    with pytest.raises(OSError, match="no clock"):
        sweep._run_workers(2)
    assert len(workers) == 2 and all(worker.returncode not in (None, 0) for worker in workers)


# --- sweep_report ---


@needs_plotly
def test_report_and_training_again(installation: Installation, zoo: Zoo, swept: Path) -> None:
    installation.run(swept, "-m", "sb3_lwm.zoo", "sweep_report", *STUDY, "-o", "report")
    names = {path.name for path in (swept / "report").iterdir()}
    plots = {f"{name}.html" for name in ("history", "importances", "parallel_coordinates", "slices")}
    assert names == {*plots, "plotly.min.js", "trials.csv", "best.yml"}
    table = (swept / "report/trials.csv").read_text().splitlines()
    assert len(table) == 4 and {"value", "params_tau", "user_attrs_seed", "state"} <= set(table[0].split(","))
    best = find_trial(study_of(swept))
    text = (swept / "report/best.yml").read_text()
    assert f"# Trial {best.number} of the study mine: complete, mean reward {best.value!r}." in text
    assert yaml.safe_load(text)["CartPole-v1"]["learning_rate"] == best.params["learning_rate"]
    # the command of the third line
    python, _, module, *arguments = shlex.split(text.splitlines()[2].removeprefix("# "))
    assert (python, module) == ("python", "rl_zoo3.train")
    assert zoo(importlib.import_module(module).train, *arguments, cwd=swept) == 0
    with np.load(swept / "logs/lwm_dqn/CartPole-v1_1/evaluations.npz") as evaluations:
        assert evaluations["results"].mean(axis=1)[-1] == best.value
        with np.load(swept / f"trials/trial_{best.number}/evaluations.npz") as those_of_the_trial:
            np.testing.assert_array_equal(evaluations["results"], those_of_the_trial["results"])
    files = (swept / f"trials/trial_{best.number}/best_model", swept / "logs/lwm_dqn/CartPole-v1_1/best_model")
    first, second = (LWMDQN.load(file, device="cpu") for file in files)
    assert not changed(weights(first.policy), weights(second.policy))


@needs_plotly
@pytest.mark.filterwarnings("ignore:Some regimes for parameter")
def test_report_of_one_trial(zoo: Zoo, swept_copy: Path) -> None:
    assert zoo(report.main, *STUDY, "-o", "one", "--trial-id", "0", cwd=swept_copy) == 0
    trial = study_of(swept_copy).trials[0]
    assert f"mean reward {trial.value!r}" in (swept_copy / "one/trial_0.yml").read_text()
    with pytest.raises(ValueError, match="has no trial 9"):
        zoo(report.main, *STUDY, "--trial-id", "9", cwd=swept_copy)
    with pytest.raises(ValueError, match="the storage has no such study"):
        zoo(report.main, *STUDY[:-1], "yours", cwd=swept_copy)


@needs_plotly
def test_report_of_a_study_of_the_zoo_with_too_few_trials(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage, study_name="mine", direction="maximize")
    with pytest.raises(ValueError, match="The study mine has no complete trial"):
        zoo(report.main, *STUDY, cwd=tmp_path)
    distributions = {"tau": optuna.distributions.FloatDistribution(0.0, 1.0)}
    study.add_trial(optuna.create_trial(params={"tau": 0.5}, distributions=distributions, value=1.0))
    assert zoo(report.main, *STUDY, cwd=tmp_path) == 0
    output = capsys.readouterr().out
    assert "No importances: they need two complete trials with different values." in output
    assert "Load the trial with rl_zoo3.train --trial-id 0." in output
    names = {path.name for path in (tmp_path / "sweep_report").iterdir()}
    assert names == {"history.html", "slices.html", "parallel_coordinates.html", "plotly.min.js", "trials.csv"}


# --- train -optimize ---


def test_optimize_of_the_zoo(installation: Installation, tmp_path: Path) -> None:
    command = ["--algo", "lwm_dqn", "--env", "POL-3x3-v0", "-optimize", "-n", "200", "--n-trials", "2", "--eval-episodes", "1"]
    storage = ["--storage", "study.log", "--study-name", "mine", "--no-optim-plots"]
    options = ["--seed", "7", "-f", "sweeps", *SHORT_EPISODES, "-params", "n_envs:2", *TINY]
    assert "Best trial:" in installation.run(tmp_path, "-m", "rl_zoo3.train", *command, *storage, *options)
    study = load_study(f"{tmp_path}/study.log", "mine")
    assert [trial.user_attrs["seed"] for trial in study.trials] == [7, 8]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert {"gru_hidden_size_pow", "tau"} <= set(study.trials[0].params)
