"""``watch`` shows an episode as text, in a terminal and elsewhere."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from player_helpers import train_labyrinth
from rich.console import Console

from sb3_lwm.figures import WatchedEpisode
from sb3_lwm.zoo.commands import watch

EPISODE = WatchedEpisode(["start", "left", "right"], np.array([np.nan, 0.5, -1.0]), -2.0)


def test_labyrinth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    train_labyrinth(tmp_path)
    monkeypatch.setattr(sys, "argv", ["watch", "--env", "POL-v0", "-f", str(tmp_path), "-n", "5", "--eps", "0"])
    watch.main()
    output = capsys.readouterr().out
    # the reset and five steps, of a labyrinth of the run's size
    assert output.count("of 4 cells") == output.count("intrinsic reward") == 6 and output.count("@") == 6
    assert "step    5  intrinsic reward" in output and "POL-v0: 5 steps, score -5" in output


def test_bars() -> None:
    console = Console(file=io.StringIO(), width=120)
    watch._show(EPISODE, console, 4.0)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line for line in lines if line in EPISODE.frames] == EPISODE.frames
    bars = [line for line in lines if "intrinsic" in line]
    # against the largest of all, whatever its sign; below 0 there is none
    assert [bar.count("█") for bar in bars] == [0, watch.BAR // 2, 0]
    assert "+0.50" in bars[1] and "-1.00" in bars[2]


def test_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(watch.time, "sleep", pauses.append)
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    watch._show(EPISODE, console, 8.0)
    assert pauses == [0.125] * 3 and "right" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "POL-v0", "--fps", "0"], "argument --fps: 0 must be greater than 0"),
        (["--env", "POL-v0", "-n", "0"], "argument -n/--n-timesteps: 0 is too small"),
        (["--env", "CartPole-v1"], r"cannot be rendered as text \(its render modes: human, rgb_array.*record"),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        watch.parse(arguments)
    assert re.search(message, capsys.readouterr().err)
