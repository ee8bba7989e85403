"""The benchmark of tasks whose reward is rare."""

import json
from pathlib import Path

import pandas as pd
import pytest
import sparse_tasks
from sparse_tasks import AGENTS, curve, find_agent
from trainings import Training

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


def test_the_figure_has_a_panel_for_each_task(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = {"agent": ["ppo", "ppo"], "seed": [1, 1], "steps": [5e4, 1e5], "success": [0.0, 0.5]}
    tables = [pd.DataFrame({**rows, "task": task}) for task in (TASK, "MountainCarContinuous-v0")]
    sparse_tasks.draw(pd.concat(tables), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
