"""Sweeps by their commands: two workers, the report, and the best trial trained again to the same score."""

import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from helpers import changed, weights
from optuna.trial import TrialState
from rl_zoo3.exp_manager import ExperimentManager
from zoo_commands import SHORT_EPISODES, Installation, made_once

from sb3_lwm import LWMDQN
from sb3_lwm.zoo import sweep, sweep_report
from sb3_lwm.zoo.storage import open_storage
from sb3_lwm.zoo.sweep_options import parse
from sb3_lwm.zoo.sweep_study import best_trial

Zoo = Callable[..., int]

TINY = [
    *("learning_starts:100", "buffer_size:1000", "batch_size:4", "burn_in:2", "unroll:6", "train_freq:2"),
    *("pretraining_updates:2", "pretraining_batch_size:4", "pretraining_sequence_length:8"),
]
# episodes of CartPole are short, and their scores differ
SWEEP = [
    *("--storage", "sqlite:///study.db", "--study-name", "mine", "--env", "CartPole-v1", "-n", "240"),
    *("--eval-episodes", "4", "--n-eval-envs", "2", "--n-evaluations", "2", "--pruner", "none", "--seed", "3"),
    *("--max-total-trials", "3", "--heartbeat", "5", "--optimization-log-path", "trials", "-params", *TINY),
]
JOIN = ["-conf", "my_settings", *SWEEP]
needs_plotly = pytest.mark.skipif(importlib.util.find_spec("plotly") is None, reason="needs the extra 'sweeps'")
REPORT = ["--storage", "sqlite:///study.db", "--study-name", "mine"]


@pytest.fixture(scope="module")
def swept(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a sweep with two workers, whose settings are a module's."""

    def sweep(cwd: Path) -> None:
        block = {
            "policy": "MlpPolicy",
            "n_timesteps": 900,
            "n_envs": 2,
            "learning_rate": 1e-3,
            "policy_kwargs": {"net_arch": (16, 16)},
        }
        (cwd / "my_settings.py").write_text(f"hyperparams = {{'CartPole-v1': {block}, 'Pendulum-v1': {block}}}")
        output = installation.run(cwd, "-m", "sb3_lwm.zoo", "sweep", "--workers", "2", *JOIN)
        assert "Study mine: 3 complete." in output

    return made_once(tmp_path_factory, "sweep", sweep)


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch, swept: Path) -> Zoo:
    """Run a command in this process, where it costs no import of torch."""

    def call(main: Callable[[], None] | str, *arguments: str, cwd: Path = swept) -> int:
        monkeypatch.chdir(cwd)
        monkeypatch.syspath_prepend(cwd)
        # the Zoo changes the dictionary of the module
        monkeypatch.delitem(sys.modules, "my_settings", raising=False)
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        try:
            if isinstance(main, str):
                runpy.run_module(main, run_name="__main__")
            else:
                main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def study_of(cwd: Path) -> optuna.Study:
    return optuna.load_study(study_name="mine", storage=open_storage(f"sqlite:///{cwd}/study.db"))


def test_two_workers(swept: Path) -> None:
    study = study_of(swept)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert [trial.user_attrs["seed"] for trial in study.trials] == [3, 4, 5]
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 3
    # what -params fixes is not searched
    assert not {"burn_in", "unroll_pow", "batch_size_pow"} & set(study.trials[0].params)
    settings = study.user_attrs["lwm_sweep"]["hyperparams"]
    assert (settings["n_envs"], settings["learning_rate"], settings["policy_kwargs"]) == (2, 1e-3, {"net_arch": [16, 16]})
    workers = {trial.user_attrs["worker"] for trial in study.trials}
    folders = {path.name for path in (swept / "logs/sweeps/mine").iterdir() if path.is_dir()}
    assert workers <= folders
    assert len(list((swept / "logs/sweeps/mine").glob("*.log"))) == 2


def test_joining_what_is_over(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo(sweep.main, *JOIN) == 0
    assert re.search(r"Study mine: 3 complete\.\nBest: trial \d, value \d+\.\d+, seed \d\.\n$", capsys.readouterr().out)


@needs_plotly
def test_report_and_training_again(installation: Installation, zoo: Zoo, swept: Path) -> None:
    installation.run(swept, "-m", "sb3_lwm.zoo", "sweep_report", *REPORT, "-o", "report")
    names = {path.name for path in (swept / "report").iterdir()}
    pictures = {f"{name}.{kind}" for name in sweep_report.PICTURES for kind in ("html", "png")}
    assert names == {*pictures, "plotly.min.js", "trials.csv", "best.yml"}
    assert len((swept / "report/trials.csv").read_text().splitlines()) == 4
    best = best_trial(study_of(swept))
    text = (swept / "report/best.yml").read_text()
    assert yaml.safe_load(text)["CartPole-v1"]["learning_rate"] == best.params["learning_rate"]
    # the command of the third line
    python, _, module, *arguments = shlex.split(text.splitlines()[2].removeprefix("# "))
    assert (python, module) == ("python", "rl_zoo3.train")
    assert zoo(module, *arguments) == 0
    with np.load(swept / "logs/lwm_dqn/CartPole-v1_1/evaluations.npz") as evaluations:
        assert evaluations["results"].mean(axis=1)[-1] == best.value
        with np.load(swept / f"trials/trial_{best.number}/evaluations.npz") as those_of_the_trial:
            np.testing.assert_array_equal(evaluations["results"], those_of_the_trial["results"])
    files = (swept / f"trials/trial_{best.number}/best_model", swept / "logs/lwm_dqn/CartPole-v1_1/best_model")
    first, second = (LWMDQN.load(file, device="cpu") for file in files)
    assert not changed(weights(first.policy), weights(second.policy))


def test_report_of_one_trial(zoo: Zoo, swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_report, "draw", lambda study, folder: None)
    assert zoo(sweep_report.main, *REPORT, "-o", "one", "--trial-id", "0") == 0
    trial = study_of(swept).trials[0]
    assert f"mean reward {trial.value!r}" in (swept / "one/trial_0.yml").read_text()
    with pytest.raises(ValueError, match="has no trial 9"):
        zoo(sweep_report.main, *REPORT, "--trial-id", "9")
    with pytest.raises(ValueError, match="the storage has no such study"):
        zoo(sweep_report.main, *REPORT[:-1], "yours")


@needs_plotly
def test_report_of_too_few_trials(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage, study_name="mine", direction="maximize")
    assert zoo(sweep_report.main, *REPORT, cwd=tmp_path) == 0
    assert "No pictures: they need a complete trial." in capsys.readouterr().out
    distributions = {"tau": optuna.distributions.FloatDistribution(0.0, 1.0)}
    study.add_trial(optuna.create_trial(params={"tau": 0.5}, distributions=distributions, value=1.0))
    assert zoo(sweep_report.main, *REPORT, cwd=tmp_path) == 0
    output = capsys.readouterr().out
    assert "No importances: they need two complete trials with different values, there are 1 complete trials." in output
    names = {path.name for path in (tmp_path / "sweep_report").iterdir()}
    assert {"history.png", "slices.png", "parallel_coordinates.html"} <= names and "importances.png" not in names
    # a study of rl_zoo3.train -optimize
    assert "Load the trial with rl_zoo3.train --trial-id 0." in output


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["-n", "500"], ValueError, r"hyperparams: .* here\. Repeat its command to join it"),
        (["--max-total-trials", "5"], ValueError, "max_total_trials: 3 there, 5 here"),
        (["--heartbeat", "1"], ValueError, "heartbeat: 5 there, 1 here"),
        (["--env", "CartPole-v7"], ValueError, r"--env CartPole-v7 is not registered: did you mean CartPole-v\d\?"),
        (["--env", "Pendulum-v1"], ValueError, "lwm_dqn cannot learn Pendulum-v1: .*Discrete"),
        (["-params", "n_steps:40"], ValueError, "n_steps=40 must be smaller than unroll=32"),
        (["-params", "buffer_size:10**13"], MemoryError, "Use buffer_size <="),
        (
            ["-params", "policy_kwargs:'dict(net_arch=[8])'"],
            ValueError,
            "is Python: a sweep needs settings that YAML can hold",
        ),
        (["--storage", "study"], ValueError, "--storage study is none of those that a sweep can use"),
    ],
)
def test_bad_input(zoo: Zoo, arguments: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        zoo(sweep.main, *JOIN, *arguments)


def test_extension_of_no_study(zoo: Zoo) -> None:
    with pytest.raises(ValueError, match="--study-name new: the storage has no such study"):
        zoo(sweep.main, *JOIN, "--study-name", "new", "--extend", "2")


def test_no_trial_was_completed(
    zoo: Zoo, swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(manager: Any, trial: optuna.Trial) -> float:
        raise optuna.TrialPruned

    monkeypatch.setattr(ExperimentManager, "objective", fail)
    assert zoo(sweep.main, *JOIN, "--study-name", "pruned", "--max-total-trials", "1", "-f", str(tmp_path)) == 1
    assert "No trial was completed." in capsys.readouterr().out


def test_no_worker_is_left_alone(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[subprocess.Popen[bytes]] = []

    def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        workers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True))
        return workers[-1]

    def fail(*arguments: Any) -> None:
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(sweep, "start_worker", start)
    monkeypatch.setattr(sweep, "show_progress", fail)
    monkeypatch.setattr(sweep, "handle_interruptions", lambda handler: None)
    with pytest.raises(ConnectionError, match="the server is gone"):
        sweep.run_workers(parse([*SWEEP, "--workers", "2", "-f", str(tmp_path)]), [], study_of(swept))
    assert len(workers) == 2 and all(worker.returncode not in (None, 0) for worker in workers)


def test_bad_numbers(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo(sweep.main, *JOIN, "--workers", "0") == 2
    assert "--workers 0: it must be at least 1" in capsys.readouterr().err


def test_literal_command_of_the_zoo(installation: Installation, tmp_path: Path) -> None:
    command = ["--algo", "lwm_dqn", "--env", "POL-3x3-v0", "-optimize", "-n", "200", "--n-trials", "2", "--eval-episodes", "1"]
    storage = ["--storage", "study.log", "--study-name", "mine", "--no-optim-plots"]
    options = ["--seed", "7", "-f", "sweeps", *SHORT_EPISODES, "-params", "n_envs:2", *TINY]
    assert "Best trial:" in installation.run(tmp_path, "-m", "rl_zoo3.train", *command, *storage, *options)
    study = optuna.load_study(study_name="mine", storage=open_storage(f"{tmp_path}/study.log"))
    assert [trial.user_attrs["seed"] for trial in study.trials] == [7, 8]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert {"gru_hidden_size_pow", "tau"} <= set(study.trials[0].params)
