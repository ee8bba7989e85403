"""Every script of the Zoo, by the real command, on a wheel in a foreign directory: training, playing, recording, the hub."""

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rl_zoo3.utils
import torch as th
import yaml
from fake_hub import fake_hub
from stable_baselines3.common.monitor import load_results
from zoo_commands import LABYRINTH, PLAY, RUN, SETTINGS, SHORT_EPISODES, Installation

from sb3_lwm import LWMDQN
from sb3_lwm.zoo.__main__ import main

MODEL = f"{RUN}/POL-3x3-v0.zip"


# --- train ---


def test_train(installation: Installation, trained: Path) -> None:
    output = (trained / "output.txt").read_text()
    assert f"Loading hyperparameters from: {installation.site / 'sb3_lwm/hyperparams/labyrinth.yml'}" in output
    assert "━" in output  # the progress bar
    run = trained / RUN
    models = {"POL-3x3-v0.zip", "best_model.zip", "rl_model_200_steps.zip", "rl_model_400_steps.zip"}
    assert models | {"evaluations.npz", "replay_buffer.pkl"} <= {path.name for path in run.iterdir()}
    evaluations = np.load(run / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == [200, 400] and evaluations["results"].shape == (2, 2)
    # --env-kwargs reached the training and the evaluation
    assert set(load_results(str(run)).l) == {7} and set(evaluations["ep_lengths"].flat) == {7}
    model = LWMDQN.load(run / "POL-3x3-v0.zip")
    assert (model.num_timesteps, model.batch_size, model.seed, str(model.device)) == (400, 4, 1, "cpu")


def test_continue_a_run_in_processes_and_track_it(installation: Installation, trained_copy: Path) -> None:
    pytest.importorskip("wandb")
    settings = SETTINGS | {"policy": "MlpPolicy", "n_timesteps": 104, "learning_starts": 0}
    (trained_copy / "settings.yml").write_text(yaml.safe_dump({"POL-3x3-v0": settings}))
    options = ["-i", MODEL, "-conf", "settings.yml", "--vec-env", "subproc", "--uuid", "--eval-freq", "-1", "--seed", "2"]
    track = ["--track", "--wandb-project-name", "labyrinths", "-tags", "continued"]
    # everything that would be sent is written to a file
    offline = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    output = installation.run(trained_copy, "-m", "rl_zoo3.train", *LABYRINTH, *options, *track, *SHORT_EPISODES, **offline)
    assert "Loading pretrained agent" in output and "Loading replay buffer" in output
    (run,) = (trained_copy / "logs/lwm_dqn").glob("POL-3x3-v0_2_????????-*")
    before, after = LWMDQN.load(trained_copy / MODEL), LWMDQN.load(run / "POL-3x3-v0.zip")
    assert after._n_updates > before._n_updates and after.num_timesteps == 104
    assert any(not th.equal(a, b) for a, b in zip(before.policy.parameters(), after.policy.parameters(), strict=True))
    # Weights & Biases gets the settings, and TensorBoard's files to copy
    (tracked,) = (trained_copy / "wandb").glob("offline-run-*")
    (record,) = (path.read_bytes() for path in tracked.glob("*.wandb"))
    for part in (b"labyrinths", b"continued", b"lwm_dqn", b'"unroll":4'):
        assert part in record, part
    assert list((tracked / "files/runs").rglob("events.out.tfevents.*"))


def test_evaluate_as_in_the_training(installation: Installation, trained: Path) -> None:
    options = ["--env", "POL-3x3-v0", "-f", "logs", "--n-games", "3", "--n-envs", "2", "--load-best"]
    output = installation.run(trained, "-m", "sb3_lwm.zoo", "evaluate", *options)
    # --env-kwargs of the training
    assert output.count("-7 to -7") == 2 and "best_model.zip" in output and "POL-3x3-v0, epsilon 0.01" in output


def test_own_entry_and_settings_in_python(installation: Installation, tmp_path: Path) -> None:
    # A custom_envs of the user's hides ours: this entry must do without.
    (tmp_path / "custom_envs.py").write_text("")
    settings = SETTINGS | {"policy": "MlpPolicy", "n_timesteps": 300, "env_kwargs": {"max_episode_steps": 7}}
    (tmp_path / "settings.py").write_text(f"hyperparams = {{'POL-3x3-v0': dict(**{settings})}}")
    options = [*LABYRINTH, "-conf", "settings.py", "--eval-freq", "200", "--eval-episodes", "1"]
    output = installation.run(tmp_path, "-m", "sb3_lwm.zoo", "train", *options)
    assert "Saving to logs/lwm_dqn/POL-3x3-v0_1" in output
    # the settings of the environment reach its evaluation
    assert np.load(tmp_path / RUN / "evaluations.npz")["ep_lengths"].max() == 7


# --- enjoy, record_video, record_training, benchmark ---


@pytest.mark.parametrize(
    ("which", "file"),
    [
        (["--load-best", "--no-render", "-n", "60"], "best_model.zip"),
        (["--load-checkpoint", "200", "-n", "3"], "rl_model_200_steps.zip"),
        (["--load-last-checkpoint", "--no-render", "-n", "60"], "rl_model_400_steps.zip"),
    ],
)
def test_enjoy(installation: Installation, trained: Path, which: list[str], file: str) -> None:
    output = installation.run(trained, "-m", "rl_zoo3.enjoy", *PLAY, *which)
    assert f"Loading {RUN}/{file}" in output
    if "--no-render" in which:
        assert "Mean reward: -7.00" in output and "Mean episode length: 7.00" in output
    else:
        assert output.count("of 9 cells") >= 4  # one picture of the reset, then one of each step


@pytest.mark.parametrize(
    ("which", "name"), [([], "final-model-lwm_dqn"), (["--load-last-checkpoint"], "checkpoint-400-lwm_dqn")]
)
def test_record_video(installation: Installation, trained: Path, tmp_path: Path, which: list[str], name: str) -> None:
    installation.run(trained, "-m", "rl_zoo3.record_video", *PLAY, "-n", "5", "-o", str(tmp_path), *which)
    (video,) = tmp_path.glob("*.mp4")
    assert video.name.startswith(f"{name}-POL-3x3-v0") and video.stat().st_size > 500


def test_record_training(installation: Installation, trained_copy: Path) -> None:
    for path in (trained_copy / RUN).glob("[rb]*.zip"):
        path.unlink()  # the checkpoints and the best model: a process each
    options = ["-n", "5", "-o", "videos", "-g"]
    # `python` and `ffmpeg` are not where rl_zoo3 expects them
    output = installation.run(trained_copy, "-m", "sb3_lwm.zoo", "record_training", *PLAY, *options, PATH="/nowhere")
    assert "Saving gif to" in output
    videos = {path.name: path.stat().st_size for path in (trained_copy / "videos").iterdir()}
    assert videos.keys() == {"training.mp4", "training.gif", "final-model-lwm_dqn-POL-3x3-v0-step-0-to-step-5.mp4"}
    assert min(videos.values()) > 500


def test_benchmark(installation: Installation, trained_copy: Path) -> None:
    options = ["--log-dir", "logs", "--benchmark-dir", "scores", "--no-hub", "-n", "120"]
    output = installation.run(trained_copy, "-m", "sb3_lwm.zoo", "benchmark", *options, PATH="/nowhere")
    assert "Mean reward: -7.00 +- 0.00" in output
    (row,) = [line for line in (trained_copy / "benchmark.md").read_text().splitlines() if "POL-3x3-v0" in line]
    assert row.strip("|").replace(" ", "").split("|") == ["lwm_dqn", "POL-3x3-v0", "-7", "0", "1M", "119", "17"]


# --- The hub ---


def test_what_is_pushed_to_the_hub_loads_again(installation: Installation, trained_copy: Path) -> None:
    with fake_hub() as (address, repositories):
        variables = {"HF_ENDPOINT": address, "HF_HOME": str(trained_copy / "cache"), "HF_TOKEN": "hf_none"}
        options = ["-orga", "somebody", "-n", "5"]
        installation.run(trained_copy, "-m", "sb3_lwm.zoo", "push_to_hub", *PLAY, *options, **variables)
        files = repositories["somebody/lwm_dqn-POL-3x3-v0"]
        assert {"README.md", "lwm_dqn-POL-3x3-v0.zip", "config.yml", "args.yml", "results.json", "replay.mp4"} <= files.keys()
        card = files["README.md"].decode()
        assert "value: -7.00 +/- 0.00" in card
        assert "python -m sb3_lwm.zoo load_from_hub --algo lwm_dqn" in card and "rl_zoo3.load_from_hub" not in card
        shutil.rmtree(trained_copy / "logs")
        options = [*PLAY, "-orga", "somebody"]
        variables["TRUST_REMOTE_CODE"] = "True"
        installation.run(trained_copy, "-m", "sb3_lwm.zoo", "load_from_hub", *options, **variables)
    assert (trained_copy / MODEL).read_bytes() == files["lwm_dqn-POL-3x3-v0.zip"]
    # the last model, which is all that the hub holds
    output = installation.run(trained_copy, "-m", "rl_zoo3.enjoy", *PLAY, "--no-render", "-n", "60")
    assert f"Loading {MODEL}" in output and "Mean reward: -7.00" in output


# --- What cannot work ---


@pytest.mark.filterwarnings("ignore")  # what the scripts warn of, and leave open, is not ours
@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train", ["--env", "Pendulum-v1"], r"The algorithm only supports .*Discrete.* as action spaces but Box"),
        ("train", [*LABYRINTH[2:], "-params", "n_steps:8", "unroll:4"], r"n_steps=8 must be smaller than unroll=4"),
        ("enjoy", [*PLAY[2:], "--exp-id", "7"], r"The logs/lwm_dqn/POL-3x3-v0_7 folder was not found"),
        ("record_video", [*PLAY[2:], "--load-checkpoint", "123"], r"No model found for .*/rl_model_123_steps\.zip"),
        ("record_training", PLAY[2:], r"logs/lwm_dqn has no run of POL-3x3-v0: train one, or name .* -f"),
    ],
)
def test_what_is_refused(
    script: str, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "logs/lwm_dqn"
    (runs / "POL-3x3-v0_1" if "--load-checkpoint" in arguments else runs).mkdir(parents=True)
    before = sorted(runs.iterdir())
    # a process of its own takes its time, and record_training changes modules
    monkeypatch.setattr(rl_zoo3.utils, "get_latest_run_id", rl_zoo3.utils.get_latest_run_id)
    monkeypatch.setattr(subprocess, "call", subprocess.call)
    monkeypatch.setattr(sys, "argv", ["zoo", script, "--algo", "lwm_dqn", *arguments])
    with pytest.raises((AssertionError, ValueError), match=message):
        main()
    gc.collect()
    # nothing is left that enjoy would take for a run
    assert sorted(path for path in runs.iterdir() if path.is_dir()) == before
