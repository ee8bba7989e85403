"""The harness of the labyrinth results: what it trains, what it leaves alone, and what it makes of a run."""

import argparse
from pathlib import Path
from typing import Any

import labyrinth
import numpy as np
import pandas as pd
import pytest
from helpers import SHORT, make_labyrinths

from sb3_lwm import LWMDQN

CELL = labyrinth.Cell(3, "dqn", 100)


def options(folder: Path, *arguments: str) -> argparse.Namespace:
    return labyrinth.parse(["--runs", str(folder), "--output", str(folder / "out.csv"), *arguments])


def leave(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_a_new_training(tmp_path: Path) -> None:
    given = options(tmp_path, "--conf-file", "labyrinth-paper", "--params", "gamma:0.9")
    # from a run that never came to its first state
    leave(CELL.run(given) / "0.monitor.csv")
    command = labyrinth.command(CELL, given)
    assert not CELL.logs(given).exists()
    text = " ".join(command)
    assert "train --algo lwm_dqn --env POL-3x3-v0 --seed 100 -n 1000000" in text and f"-f {CELL.logs(given)}" in text
    assert text.endswith("--conf-file labyrinth-paper -params use_world_model:False gamma:0.9")
    assert "-params" not in labyrinth.command(labyrinth.Cell(5, "lwm_dqn", 1), options(tmp_path))


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    given = options(tmp_path)
    (CELL.run(given) / "states" / "state_800").mkdir(parents=True)
    assert labyrinth.command(CELL, given)[-2:] == ["resume", str(CELL.run(given))]


def test_a_finished_training_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(tmp_path, "--steps", "200", "--interval", "100")
    leave(CELL.run(given) / "rl_model_100_steps.zip")
    assert not CELL.is_finished(given)
    leave(CELL.run(given) / "rl_model_200_steps.zip")
    assert CELL.is_finished(given) and list(CELL.checkpoints(given)) == [100, 200]
    monkeypatch.setattr(labyrinth, "train", None)
    labyrinth.train_all([CELL], given)


def test_a_failed_training_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labyrinth, "command", lambda cell, given: [labyrinth.sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(SystemExit, match=r"agent='dqn', seed=100.*exit code 3.*dqn_3_100.txt"):
        labyrinth.train_all([CELL], options(tmp_path))


def test_learning_curve(tmp_path: Path) -> None:
    # two environments: a step of one is two of the run
    for env, lengths in enumerate(([30, 10, 40], [60])):
        rows = "\n".join(f"-{length},{length},{10 * env + number}" for number, length in enumerate(lengths))
        (tmp_path / f"{env}.monitor.csv").write_text(f'#{{"t_start": 0, "env_id": "POL"}}\nr,l,t\n{rows}\n')
    curve = labyrinth.learning_curve(tmp_path, 100)
    # ends at 60, 80 and 160 of the first, at 120 of the second
    assert curve.steps.tolist() == [100, 200] and curve.episodes.tolist() == [2, 2]
    assert curve.mean_steps.tolist() == [20, 50] and curve.standard_deviation.tolist() == [10, 10]
    assert curve.wall_seconds.tolist() == [1, 10]


def test_every_model_is_evaluated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labyrinth, "EVALUATION_EPISODES", 3)
    given = options(tmp_path, "--steps", "100", "--interval", "100")
    calls: list[Any] = []

    def play(model: LWMDQN, env: Any, n_games: int) -> Any:
        calls.append(n_games)
        lengths = [argparse.Namespace(length=length) for length in (3, 4, 8)]
        return argparse.Namespace(first_started=lengths)

    monkeypatch.setattr(labyrinth, "make_vec_env", lambda *arguments, **kwargs: None)
    monkeypatch.setattr(labyrinth, "play_games", play)
    run = CELL.run(given)
    run.mkdir(parents=True)
    LWMDQN("MlpPolicy", make_labyrinths(1), seed=0, **SHORT).save(run / "rl_model_100_steps.zip")
    first = labyrinth.evaluate(CELL, given)
    again = labyrinth.evaluate(CELL, given)
    assert calls == [3] and first.mean_steps.tolist() == again.mean_steps.tolist() == [5.0]
    assert first.standard_deviation.tolist() == pytest.approx([np.std([3, 4, 8])])


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--steps", "150", "--interval", "100"], ["--sizes", "9"]])
def test_bad_options(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(tmp_path, *arguments)
    assert arguments[0] in capsys.readouterr().err


def test_pictures() -> None:
    pytest.importorskip("rliable")
    plot = pytest.importorskip("plot")
    rows = [
        {"size": 3, "agent": agent, "kind": "bound", "mean_steps": value} for agent, value in (("search", 11), ("random", 150))
    ]
    for seed, agent, steps in [
        (seed, agent, steps) for seed in (1, 2, 3) for agent in ("dqn", "lwm_dqn") for steps in (100, 200)
    ]:
        for kind in ("training", "evaluation"):
            rows.append({"size": 3, "agent": agent, "seed": seed, "steps": steps, "kind": kind, "mean_steps": 10.0 * seed})
    results = pd.DataFrame(rows)
    means, intervals = plot.interquartile(np.array([[10.0, 1.0], [20.0, 2.0], [30.0, 3.0]]))
    np.testing.assert_allclose(means, [20.0, 2.0])
    assert (intervals[0] <= means).all() and (means <= intervals[1]).all()
    (curves,), (bars,) = plot.draw_curves(results).axes, plot.draw_steps(results).axes
    # three seeds and their mean for each of two agents, and two bounds
    assert len(curves.lines) == 2 * 4 + 2
    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], [20.0, 20.0])
    assert sorted(line.get_ydata()[0] for line in bars.lines[2:]) == [11, 150]
