"""``record`` plays an agent of a run as it was trained, and writes videos and figures of its intrinsic reward."""

import json
import sys
from pathlib import Path
from typing import Any

import labyrinth_walk
import numpy as np
import pytest
from helpers import SHORT
from labyrinth_bounds import SHIFTS
from player_helpers import train_labyrinth, write_settings

from sb3_lwm import LWMDQN, AtariVecEnv
from sb3_lwm.zoo.commands import record
from sb3_lwm.zoo.commands.player import NATIVE
from sb3_lwm.zoo.registration import register

cv2 = pytest.importorskip("cv2")
pytest.importorskip("imageio_ffmpeg")
Image = pytest.importorskip("PIL.Image")

register()


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the script on the runs in a folder."""
    monkeypatch.setattr(sys, "argv", ["record", "-f", str(folder), "--device", "cpu", *arguments])
    record.main()


def test_labyrinth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    train_labyrinth(tmp_path)
    outputs = [str(tmp_path / "out" / name) for name in ("a.gif", "a.png", "a.SVG")]
    command(tmp_path, monkeypatch, "--env", "POL-v0", "-n", "8", "--eps", "0", "--fps", "5", "--output", *outputs)
    # the wrapper of the frames would change the score, were it outside of what counts it
    assert "POL-v0: 8 steps, score -8" in capsys.readouterr().out
    with Image.open(outputs[0]) as video:
        assert (video.n_frames, video.info["duration"]) == (9, 200)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.SVG", "a.gif", "a.png"]


def test_walk_in_a_labyrinth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_labyrinth(tmp_path)
    path = tmp_path / "walk.json"
    options = ["--env", "POL-v0", "--env-kwargs", "size:2", "max_episode_steps:12", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", ["labyrinth_walk", "-f", str(tmp_path), "--device", "cpu", *options])
    labyrinth_walk.main()
    walk = json.loads(path.read_text())
    passages = np.array(walk["passages"], dtype=bool)
    assert passages.shape == (2, 2, 4) and passages.sum() == 6
    # each step leads through a passage or nowhere, and the episode ends where all has been seen or after its time
    moves = np.diff(walk["path"], axis=0)
    assert all(
        not move.any() or passages[tuple(cell)][SHIFTS.index(tuple(move))]
        for cell, move in zip(walk["path"], moves, strict=False)
    )
    assert len({tuple(cell) for cell in walk["path"][:-1]}) < 4
    assert len(walk["path"]) == len(walk["intrinsic_rewards"]) and (len(moves) == 12 or len({*map(tuple, walk["path"])}) == 4)
    assert walk["intrinsic_rewards"][0] is None and None not in walk["intrinsic_rewards"][1:]


def test_native_atari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "lwm_dqn/BreakoutNoFrameskip-v4_1"
    write_settings(run, "BreakoutNoFrameskip-v4", {"vec_env_wrapper": NATIVE}, None)
    env = AtariVecEnv("BreakoutNoFrameskip-v4", 1, seed=0)
    policy_kwargs = {**SHORT["policy_kwargs"], "net_arch": []}
    LWMDQN("CnnPolicy", env, seed=0, **{**SHORT, "policy_kwargs": policy_kwargs}).save(run / "BreakoutNoFrameskip-v4.zip")
    env.close()
    path = tmp_path / "a.mp4"
    options = ["--env", "BreakoutNoFrameskip-v4", "--max-episode-steps", "5", "--output", str(path)]
    command(tmp_path, monkeypatch, *options)
    # the game that the settings end, at its own speed
    assert "BreakoutNoFrameskip-v4: 5 steps" in capsys.readouterr().out
    video = cv2.VideoCapture(str(path))
    assert (video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)) == (15.0, 6.0)
    video.release()


@pytest.mark.parametrize(("algo", "settings"), [("dqn", {}), ("lwm_dqn", {"use_world_model": False})])
def test_without_a_world_model(algo: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_labyrinth(tmp_path, algo, **settings)
    with pytest.raises(ValueError, match=rf"POL-v0_1 \({algo}\) has no world model, .*record this one with .*record_video"):
        command(tmp_path, monkeypatch, "--algo", algo, "--env", "POL-v0", "--output", str(tmp_path / "a.gif"))
    assert not (tmp_path / "a.gif").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "a.avi"], "argument -o/--output: a.avi must end in .mp4 or .gif or .png or .svg"),
        (["--output", "a.gif", "-n", "0"], "argument -n/--n-timesteps: 0 is too small, it must be at least 1"),
        (["--output", "a.gif", "--fps", "0"], "argument --fps: 0 must be greater than 0"),
        (["--output", "a.gif", "--eps", "2"], "argument --eps: 2 must be a share from 0 to 1"),
    ],
)
def test_bad_input(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        record.parse(["--env", "POL-3x3-v0", *options])
    assert exit_info.value.code == 2 and message in capsys.readouterr().err


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio", None)
    record.parse(["--env", "POL-3x3-v0", "--output", "a.gif"])
    # before a model is loaded or a step is played
    with pytest.raises(ImportError, match=r"need imageio: pip install 'sb3-lwm\[figures\]'"):
        record.parse(["--env", "POL-3x3-v0", "--output", "a.gif", "b.mp4"])
