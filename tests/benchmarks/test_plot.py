"""The pictures and tables of the labyrinth results."""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

SEEDS = (1, 2, 3, 4)
BOUNDS = {"search": 11.0, "random": 150.0}


def make_results(agents: tuple[str, ...] = ("no-world-model", "lwm_dqn")) -> pd.DataFrame:
    """Return rows with last evaluations of 10, 20, 30 and 40 steps, twice that without the world model, and higher others."""
    rows: list[dict[str, Any]] = [
        {"size": 3, "agent": name, "kind": "bound", "mean_steps": value} for name, value in BOUNDS.items()
    ]
    for agent, seed, steps in itertools.product(agents, SEEDS, (100, 200)):
        who = {"size": 3, "agent": agent, "seed": seed, "steps": steps, "settings": "labyrinth"}
        value = 10.0 * seed * (1 if agent == "lwm_dqn" else 2)
        rows.append({**who, "kind": "training", "mean_steps": value + 7.0})
        rows.append({**who, "kind": "evaluation", "mean_steps": value + (5.0 if steps == 100 else 0.0)})
    return pd.DataFrame(rows)


@pytest.fixture(name="plot")
def fixture_plot() -> Any:
    pytest.importorskip("rliable")
    return pytest.importorskip("plot")


def test_interquartile_mean() -> None:
    pytest.importorskip("rliable")
    curves = pytest.importorskip("curves")
    # neither mean nor median: the middle half of the seeds
    means, intervals = curves.interquartile(np.array([[10.0, 1.0], [20.0, 2.0], [40.0, 4.0], [90.0, 9.0]]))
    np.testing.assert_allclose(means, [30.0, 3.0])
    assert (intervals[0] <= means).all() and (means <= intervals[1]).all()


def test_learning_curves(plot: Any) -> None:
    (axes,) = plot.draw_curves(make_results()).axes
    # four seeds and their interquartile mean for each of two agents, and two bounds
    assert len(axes.lines) == 2 * 5 + 2
    ours = [line for line in axes.lines if line.get_color() == "tab:blue"]
    np.testing.assert_allclose([line.get_ydata() for line in ours], [[10.0 * n + 5.0, 10.0 * n] for n in (*SEEDS, 2.5)])
    others = [line for line in axes.lines if line.get_color() == "tab:orange"]
    np.testing.assert_allclose([line.get_ydata()[1] for line in others], [20.0, 40.0, 60.0, 80.0, 50.0])
    # of three, an interquartile mean would be the mean
    results = make_results()
    (axes,) = plot.draw_curves(results[results.seed != 4]).axes
    assert len(axes.lines) == 2 * (3 + 1) + 2 and not axes.collections


def test_panels_of_learning_curves(plot: Any) -> None:
    def look(results: pd.DataFrame) -> tuple[list[str], list[str]]:
        figure = plot.draw_curves(results)
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        return [axes.get_title() for axes in figure.axes], legend

    results = make_results()
    assert look(results) == (["3x3"], ["no-world-model", "lwm_dqn", "search", "random"])
    # ablations: a panel for each, beside what they are compared with
    ablations = make_results(("complete", "no-burn-in", "prioritized"))
    titles, legend = look(ablations)
    assert titles == ["3x3: no-burn-in", "3x3: prioritized"]
    assert legend == ["agent of the title", "complete", "search", "random"]
    # a size at which there is nothing to compare with yet
    alone = results[results.agent == "lwm_dqn"].assign(size=4)
    assert look(pd.concat([results, alone]))[0] == ["3x3", "4x4"]


def test_bars_of_final_steps(plot: Any) -> None:
    (axes,) = plot.draw_steps(make_results()).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no-world-model", "lwm_dqn"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [50.0, 25.0])
    # cut at half more than the search's; arrows mark the seeds beyond
    assert axes.get_xlim() == (0.0, 16.5)
    dots = [(line.get_xdata()[0], line.get_marker()) for line in axes.lines if line.get_marker() in ("o", ">")]
    assert dots == [(16.5, ">")] * 4 + [(10.0, "o")] + [(16.5, ">")] * 3
    assert [text.get_text().split() for text in axes.texts[:2]] == [
        ["20.0", "40.0", "60.0", "80.0"],
        ["10.0", "20.0", "30.0", "40.0"],
    ]
    # the random walk is out of sight, and named below
    lines = [line for line in axes.lines if line.get_marker() == "None"]
    assert [line.get_xdata()[0] for line in lines] == [11.0] and "random 150.0" in axes.get_xlabel()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"agent": ["lwm_dqn"] * 2, "settings": ["labyrinth", "labyrinth-paper"]},
            "lwm_dqn of size 3: labyrinth for 100 steps and labyrinth-paper for 100 steps",
        ),
        (
            {"seed": [1, 2], "steps": [100, 400], "settings": "labyrinth"},
            "labyrinth for 100 steps and labyrinth for 400 steps",
        ),
        ({"score": ["1", "2"]}, "is not a CSV of trainings"),
    ],
)
def test_bad_tables_are_refused(
    plot: Any,
    table: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "labyrinth.csv"
    who = {"size": 3, "agent": "lwm_dqn", "seed": 1, "steps": 100}
    row = {**who, "kind": "evaluation", "mean_steps": 20.0, "wall_seconds": 1.0}
    pd.DataFrame({**row, **table}).to_csv(path)
    monkeypatch.setattr(sys, "argv", ["plot.py", str(path), "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        plot.main()
    assert message in " ".join(capsys.readouterr().err.split())


def test_printed_tables(
    plot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = make_results()
    # seconds of a training; those of an evaluation count for nothing
    results["wall_seconds"] = np.where(results.kind == "training", 150.0, 9e9)
    path = tmp_path / "some.csv"
    # a size without trainings, and an agent that has fewer seeds
    more = pd.DataFrame({"size": [4], "agent": "search", "kind": "bound", "mean_steps": 23.66})
    pd.concat([results[(results.agent != "lwm_dqn") | (results.seed < 3)], more]).to_csv(path)
    monkeypatch.setattr(plot, "save_figure", lambda figure, file: None)
    monkeypatch.setattr(sys, "argv", ["plot.py", str(path), "--output", str(tmp_path)])
    plot.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines == [
        "| agent | 3x3 | 4x4 |",
        "| --- | --- | --- |",
        "| search | 11.0 | 23.7 |",
        "| random | 150 |  |",
        "| no-world-model | 20.0 40.0 60.0 80.0 |  |",
        "| lwm_dqn | 10.0 20.0 |  |",
        "| agent | seed | 0.1k | 0.2k | minutes |",
        "| --- | --- | --- | --- | --- |",
        *(f"| no-world-model | {seed} | {20 * seed + 5}.0 | {20 * seed}.0 | 2 |" for seed in SEEDS),
        *(f"| lwm_dqn | {seed} | {10 * seed + 5}.0 | {10 * seed}.0 | 2 |" for seed in (1, 2)),
        "| size | agent | settings | seed | 0.1k | 0.2k | evaluation |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(f"| 3 | lwm_dqn | labyrinth | {seed} | {10 * seed + 7}.0 | {10 * seed + 7}.0 | {10 * seed}.0 |" for seed in (1, 2)),
        *(f"| 3 | no-world-model | labyrinth | {n} | {20 * n + 7}.0 | {20 * n + 7}.0 | {20 * n}.0 |" for n in SEEDS),
    ]
