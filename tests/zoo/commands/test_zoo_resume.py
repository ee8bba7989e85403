"""``resume`` continues a run of the Zoo that was stopped."""

import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import NETWORKS, changed, weights
from stable_baselines3.common.callbacks import ConvertCallback, EveryNTimesteps

from sb3_lwm import LWMDQN
from sb3_lwm.zoo.__main__ import main
from sb3_lwm.zoo.commands import resume
from sb3_lwm.zoo.commands.resume import ResumedExperiment, read_settings

STATES = {"sb3_lwm.TrainingStateCallback": {"every_steps": 100, "every_minutes": None, "keep_last": 10}}
SETTINGS: dict[str, Any] = {
    **{"learning_starts": 120, "buffer_size": 400, "batch_size": 4, "burn_in": 2, "unroll": 6, "n_envs": 4},
    **{"pretraining_updates": 2, "pretraining_batch_size": 4, "pretraining_sequence_length": 10},
    **{"policy_kwargs": NETWORKS, "callback": [STATES], "env_kwargs": {"size": 2}},
}


def run(*arguments: Any) -> None:
    sys.argv = ["zoo", *map(str, arguments)]
    main()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the log folder of a finished run, with all of its states, and an evaluation."""
    folder = tmp_path_factory.mktemp("zoo")
    hyperparameters = [f"{name}:{value!r}" for name, value in SETTINGS.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [])
        arguments = ["--algo", "lwm_dqn", "--env", "POL-v0", "-n", 400, "--seed", 1, "-f", folder, "--verbose", 0]
        run("train", *arguments, "--eval-freq", 120, "--eval-episodes", 1, "-params", *hyperparameters)
    return folder


def episodes(folder: Path) -> list[list[str]]:
    """Return the returns and lengths in the monitor files of a run."""
    files = sorted(folder.glob("*.monitor.csv"))
    assert len(files) == 4
    return [[line.rpartition(",")[0] for line in file.read_text().splitlines()[1:]] for file in files]


def test_resumed_run_is_the_run_without_a_break(logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unbroken = logs / "lwm_dqn" / "POL-v0_1"
    assert {path.name for path in (unbroken / "states").iterdir()} == {"state_112", "state_208", "state_304"}
    broken = tmp_path / "lwm_dqn" / "POL-v0_1"
    shutil.copytree(unbroken, broken)
    (broken / "POL-v0.zip").unlink()
    for late in ("state_208", "state_304"):
        shutil.rmtree(broken / "states" / late)
    monkeypatch.setattr(sys, "argv", [])
    run("resume", broken)
    assert episodes(broken) == episodes(unbroken)
    assert {path.name for path in (broken / "states").iterdir()} == {"state_112", "state_208", "state_304"}
    settings = [(folder / "POL-v0" / "args.yml").read_text() for folder in (unbroken, broken)]
    assert settings[0] == settings[1]
    first, second = (LWMDQN.load(folder / "POL-v0.zip") for folder in (unbroken, broken))
    assert not changed(weights(first.policy), weights(second.policy))
    assert first.num_timesteps == second.num_timesteps == 400


def test_a_resumed_run_that_sigterm_ends_has_a_model(logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = tmp_path / "lwm_dqn" / "POL-v0_1"
    shutil.copytree(logs / "lwm_dqn" / "POL-v0_1", run)
    (run / "POL-v0.zip").unlink()
    for late in ("state_208", "state_304"):
        shutil.rmtree(run / "states" / late)
    sigterm = ConvertCallback(lambda *_: signal.raise_signal(signal.SIGTERM) is None)
    create_callbacks = ResumedExperiment.create_callbacks

    def create_and_interrupt(experiment: ResumedExperiment) -> None:
        create_callbacks(experiment)
        experiment.callbacks.append(EveryNTimesteps(200, sigterm))

    monkeypatch.setattr(ResumedExperiment, "create_callbacks", create_and_interrupt)
    monkeypatch.setattr(sys, "argv", ["resume", str(run)])
    with pytest.warns(UserWarning, match="The training state has no"), pytest.raises(SystemExit) as exit_info:
        resume.main()
    assert exit_info.value.code == 128 + signal.SIGTERM
    assert LWMDQN.load(run / "POL-v0.zip").num_timesteps < 400


def test_a_warning_names_the_parts_that_a_pretrained_agent_lacks(
    logs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained = logs / "lwm_dqn" / "POL-v0_1" / "POL-v0.zip"
    hyperparameters = [f"{name}:{value!r}" for name, value in SETTINGS.items() if name != "policy_kwargs"]
    monkeypatch.setattr(sys, "argv", [])
    with pytest.warns(UserWarning, match=r"-i starts a new training.*with an empty replay.*python -m sb3_lwm\.zoo resume"):
        run(*("train", "--algo", "lwm_dqn", "--env", "POL-v0", "-n", 140, "-f", tmp_path, "--eval-freq", -1, "-i", trained),
            *("--verbose", 0, "-params", *hyperparameters))  # fmt: skip
    assert LWMDQN.load(tmp_path / "lwm_dqn" / "POL-v0_1" / "POL-v0.zip").num_timesteps >= 140


def test_only_a_run_can_be_resumed(logs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not the folder of a run"):
        read_settings(logs)
    settings = tmp_path / "run" / "POL-v0"
    settings.mkdir(parents=True)
    options = {"algo": "lwm_dqn", "optimize_hyperparameters": True}
    (settings / "args.yml").write_text(yaml.safe_dump(options))
    (settings / "config.yml").write_text("{}")
    with pytest.raises(ValueError, match="is not a training of lwm_dqn"):
        read_settings(settings.parent)
    (settings / "args.yml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ValueError, match="cannot be read"):
        read_settings(settings.parent)
