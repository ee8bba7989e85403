"""The pictures of the labyrinth results, made of their CSV alone."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest


def test_pictures() -> None:
    pytest.importorskip("rliable")
    plot = pytest.importorskip("plot")
    rows = [
        {"size": 3, "agent": agent, "kind": "bound", "mean_steps": value} for agent, value in (("search", 11), ("random", 150))
    ]
    for seed, agent, steps in [
        (seed, agent, steps) for seed in (1, 2, 3, 4) for agent in ("dqn", "lwm_dqn") for steps in (100, 200)
    ]:
        for kind in ("training", "evaluation"):
            rows.append({"size": 3, "agent": agent, "seed": seed, "steps": steps, "kind": kind, "mean_steps": 10.0 * seed})
    results = pd.DataFrame(rows)
    # neither mean nor median: the middle half of the seeds
    means, intervals = plot.interquartile(np.array([[10.0, 1.0], [20.0, 2.0], [40.0, 4.0], [90.0, 9.0]]))
    np.testing.assert_allclose(means, [30.0, 3.0])
    assert (intervals[0] <= means).all() and (means <= intervals[1]).all()
    (curves,), (bars,) = plot.draw_curves(results).axes, plot.draw_steps(results).axes
    # four seeds and their mean for each of two agents, and two bounds
    assert len(curves.lines) == 2 * 5 + 2
    # of three, an interquartile mean would be the mean
    (curves,) = plot.draw_curves(results[results.seed != 4]).axes
    assert len(curves.lines) == 2 * (3 + 1) + 2 and not curves.collections
    assert [label.get_text() for label in bars.get_yticklabels()] == ["dqn", "lwm_dqn"]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], [25.0, 25.0])
    # cut at half more than the search's, hence the number
    assert bars.get_xlim() == (0.0, 16.5) and [text.get_text().strip() for text in bars.texts] == ["25.0", "25.0"]
    assert sorted(line.get_xdata()[0] for line in bars.lines[2:]) == [11, 150]
    # ablations: a panel for each, beside what they are compared with
    ablations = results.replace({"agent": {"lwm_dqn": "complete"}})
    more = ablations[ablations.agent == "dqn"].assign(agent="no-burn-in")
    panels = plot.draw_curves(pd.concat([ablations, more])).axes
    assert [[text.get_text() for text in axes.get_legend().get_texts()[:2]] for axes in panels] == [
        ["complete", "dqn"],
        ["complete", "no-burn-in"],
    ]
    assert [axes.get_title() for axes in panels] == ["3x3: dqn", "3x3: no-burn-in"]
    # a size at which there is nothing to compare with yet
    alone = results[results.agent == "lwm_dqn"].assign(size=4)
    titles = [axes.get_title() for axes in plot.draw_curves(pd.concat([results, alone])).axes]
    assert titles == ["3x3", "4x4"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"agent": ["lwm_dqn"] * 2, "settings": ["labyrinth", "labyrinth-paper"]},
            "lwm_dqn of size 3: labyrinth and labyrinth-paper",
        ),
        ({"score": ["1", "2"]}, "is no CSV of trainings"),
    ],
)
def test_bad_tables(
    table: dict[str, list[str]],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("rliable")
    plot = pytest.importorskip("plot")
    path = tmp_path / "labyrinth.csv"
    pd.DataFrame(
        {"size": 3, "agent": "lwm_dqn", "seed": 1, "steps": 100, "kind": "evaluation", "mean_steps": 20.0, **table}
    ).to_csv(path)
    monkeypatch.setattr(sys, "argv", ["plot.py", str(path), "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        plot.main()
    assert message in " ".join(capsys.readouterr().err.split())


def test_picture_of_a_walk(tmp_path: Path) -> None:
    walk_figure = pytest.importorskip("walk_figure")
    env = gym.make("POL-v0", size=2).unwrapped
    env.reset(seed=0)
    # there and back, and a move into a wall
    row, column = env.position
    action = int(np.flatnonzero(env.passages[row, column])[0])
    wall = int(np.flatnonzero(~env.passages[row, column])[0])
    path = [env.position]
    for move in (action, (action + 2) % 4, wall):
        env.step(move)
        path.append(env.position)
    np.testing.assert_array_equal(walk_figure.first_visits(np.array(path)), [True, True, False, False])
    walk = {"env": "POL-v0", "passages": env.passages.tolist(), "path": path, "intrinsic_rewards": [None, 2.0, -0.5, -0.25]}
    labyrinth, rewards = walk_figure.draw_walk(walk).axes[:2]
    walls, ways = labyrinth.collections
    # 4 cells with 4 sides, 3 passages with two ends each; the move into the wall leaves no line
    assert len(walls.get_segments()) == 16 - 6 and len(ways.get_segments()) == 2
    # there and back lie beside each other, each aside of the cells' middles
    (there, back) = ways.get_segments()
    np.testing.assert_allclose((there + back[::-1]) / 2, np.array(path[:2])[:, ::-1])
    assert not np.allclose(there, back[::-1])
    assert [label.get_text() for label in labyrinth.texts] == ["0", "1"]
    assert sorted(bar.get_height() for bar in rewards.patches) == [-0.5, -0.25, 2.0]
