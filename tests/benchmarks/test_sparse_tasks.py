"""The benchmark of tasks whose reward is rare."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from trainings import Training

pytest.importorskip("rliable", reason="needs the extra 'plots'")
import sparse_tasks
from sparse_tasks import AGENTS, curve, find_agent

TASK = "MiniGrid-MultiRoom-N4-S5-v0"


def make_training(folder: Path, name: str = "ppo", task: str = TASK) -> Training:
    return Training(task, name, find_agent(name, "other/python"), 1, 100_000, folder)


def finish(training: Training) -> None:
    """Write what a training of two environments leaves behind."""
    training.run.mkdir(parents=True)
    for env, episodes in enumerate(([(0.0, 20_000), (0.5, 20_000)], [(1.0, 25_000), (0.0, 15_000)])):
        rows = "".join(f"{score},{length},{number}.0\n" for number, (score, length) in enumerate(episodes))
        (training.run / f"{env}.monitor.csv").write_text(f'#{{"t_start": 0.0, "env_id": "{TASK}"}}\nr,l,t\n{rows}')
    training.record.write_text(json.dumps({"cpu_seconds": 12.5, "wall_seconds": 20.0}))


def test_a_curve_has_the_episodes_of_each_interval(tmp_path: Path) -> None:
    training = make_training(tmp_path)
    finish(training)
    rows = curve(training)
    # episodes ended after 40 000, 80 000, 50 000 and 80 000 steps of both environments together
    assert rows.steps.tolist() == [50_000, 100_000]
    assert rows.mean_return.tolist() == [0.5, 0.25]
    assert rows.success.tolist() == [0.5, 0.5]
    assert rows.episodes.tolist() == [2, 2]
    assert set(rows.cpu_seconds) == {12.5} and set(rows.agent) == {"ppo"}


def test_the_interval_is_that_of_the_task(tmp_path: Path) -> None:
    training = make_training(tmp_path, "sac", "MountainCarContinuous-v0")
    finish(training)
    assert curve(training).steps.tolist() == [40_000, 50_000, 80_000]


@pytest.mark.parametrize("name", AGENTS)
def test_settings_exist_and_agents_without_the_bonus_have_no_callback(name: str, tmp_path: Path) -> None:
    command = make_training(tmp_path, name).command
    assert Path(command[command.index("--conf-file") + 1]).exists()
    assert ("callback:None" in command) == (name in ("ppo", "ppo_lstm", "sac"))


def test_a_rival_is_trained_by_the_interpreter_that_has_it(tmp_path: Path) -> None:
    command = make_training(tmp_path, "ppo + E3B").command
    assert command[0] == "other/python" and Path(command[1]).exists()
    assert command[2:4] == ["--reward", "E3B"] and TASK in command


def made_up(agent: str, success: dict[str, list[float]], seeds: tuple[int, ...] = (1, 2)) -> pd.DataFrame:
    """Return rows of an agent whose seeds are all the same."""
    tables = []
    for (task, values), seed in itertools.product(success.items(), seeds):
        steps = np.arange(1, len(values) + 1) * 5e4
        columns = {"task": task, "agent": agent, "seed": seed, "total_steps": steps[-1], "steps": steps, "success": values}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables)


def test_tasks_of_different_lengths_are_compared_at_the_same_parts_of_a_training() -> None:
    results = made_up("ppo", {"short": [0.0, 1.0], "long": [0.0, 0.2, 0.4, 0.8]})
    scores = sparse_tasks.scores_of_all_tasks(results, ["short", "long"])
    assert scores is not None and scores.shape == (2, 2, len(sparse_tasks.PROGRESS))
    # halfway and at three quarters
    assert scores[0, :, 9] == pytest.approx([0.0, 0.2]) and scores[0, :, 14] == pytest.approx([0.5, 0.4])
    assert scores[0, :, -1] == pytest.approx([1.0, 0.8])


def test_an_agent_without_one_of_the_tasks_is_left_out() -> None:
    results = pd.concat([made_up("ppo", {"short": [0.0, 1.0]}), made_up("ppo", {"long": [0.0, 0.2]}, seeds=(1,))])
    assert sparse_tasks.scores_of_all_tasks(results, ["short", "long"]) is None


def test_the_figure_has_a_panel_for_each_task_and_one_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    titles = []
    monkeypatch.setattr(
        sparse_tasks, "save_figure", lambda figure, path: titles.extend(axes.get_title() for axes in figure.axes)
    )
    both = {TASK: [0.0, 0.5, 1.0], "MountainCarContinuous-v0": [0.0, 0.0, 1.0]}
    results = pd.concat([made_up("ppo + bonus", both), made_up("ppo", {TASK: [0.0, 0.0, 0.0]})])
    sparse_tasks.draw(results, tmp_path / "figure.png")
    assert titles[:3] == ["MultiRoom-N4-S5", "MountainCarContinuous", "interquartile mean over the tasks"]


def test_the_figure_of_one_task_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sparse_tasks.draw(made_up("ppo", {TASK: [0.0, 0.5]}), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
