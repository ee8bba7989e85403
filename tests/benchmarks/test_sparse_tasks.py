"""The benchmark of MiniGrid's exploration tasks."""

import json
from pathlib import Path

import pandas as pd
import pytest
import sparse_tasks
from sparse_tasks import Cell, add_to, curve, train_all

TASK = "MiniGrid-MultiRoom-N4-S5-v0"


def make_cell(folder: Path, agent: str = "ppo", seed: int = 1) -> Cell:
    return Cell(TASK, agent, seed, 100_000, folder)


def finish(cell: Cell) -> None:
    """Write what a training of two environments leaves behind."""
    cell.run.mkdir(parents=True)
    for env, episodes in enumerate(([(0.0, 20_000), (0.5, 20_000)], [(1.0, 25_000), (0.0, 15_000)])):
        rows = "".join(f"{score},{length},{number}.0\n" for number, (score, length) in enumerate(episodes))
        (cell.run / f"{env}.monitor.csv").write_text(f'#{{"t_start": 0.0, "env_id": "{TASK}"}}\nr,l,t\n{rows}')
    cell.record.write_text(json.dumps({"cpu_seconds": 12.5, "wall_seconds": 20.0}))


def test_a_curve_has_the_episodes_of_each_interval(tmp_path: Path) -> None:
    cell = make_cell(tmp_path)
    finish(cell)
    rows = curve(cell)
    # episodes ended after 40 000, 80 000, 50 000 and 80 000 steps of both environments together
    assert rows.steps.tolist() == [50_000, 100_000]
    assert rows.mean_return.tolist() == [0.5, 0.25]
    assert rows.success.tolist() == [0.5, 0.5]
    assert rows.episodes.tolist() == [2, 2]
    assert set(rows.cpu_seconds) == {12.5} and set(rows.agent) == {"ppo"}


def test_rows_of_other_trainings_stay(tmp_path: Path) -> None:
    cells = [make_cell(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    for cell in cells:
        finish(cell)
    path = tmp_path / "results.csv"
    add_to(path, curve(cells[0])).to_csv(path, index=False)
    both = add_to(path, curve(cells[1]))
    assert both.seed.tolist() == [1, 1, 2, 2]
    both.to_csv(path, index=False)
    assert len(add_to(path, curve(cells[0]))) == 4


@pytest.mark.parametrize(("agent", "has_bonus"), [("ppo", False), ("ppo + bonus", True)])
def test_the_command_is_that_of_the_zoo(agent: str, has_bonus: bool, tmp_path: Path) -> None:
    command = make_cell(tmp_path, agent).command()
    assert command[1:5] == ["-m", "sb3_lwm.zoo", "train", "--env"]
    assert ("callback:None" in command) != has_bonus
    assert Path(command[command.index("--conf-file") + 1]).exists()


def test_a_rival_is_trained_by_the_interpreter_that_has_it(tmp_path: Path) -> None:
    command = make_cell(tmp_path, "ppo + E3B").command("other/python")
    assert command[0] == "other/python" and Path(command[1]).exists()
    assert command[2:4] == ["--reward", "E3B"] and TASK in command


def test_cells_belong_to_their_own_processes_and_failures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # one process fails, the other one writes the number of its seed
    script = "import sys; open('seed', 'w').write(sys.argv[1]); sys.exit(int(sys.argv[1]) == 2)"
    popen = sparse_tasks.subprocess.Popen

    def start(command: list[str], **kwargs: object) -> object:
        seed = command[command.index("--seed") + 1]
        folder = Path(command[command.index("-f") + 1])
        return popen([command[0], "-c", script, seed], cwd=folder, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(sparse_tasks.subprocess, "Popen", start)
    cells = [make_cell(tmp_path / f"cell{seed}", seed=seed) for seed in (1, 2, 3)]
    with pytest.raises(SystemExit, match=r"ppo on .* seed 2, has failed"):
        train_all(cells, jobs=2)
    assert [(cell.folder / "seed").read_text() for cell in cells] == ["1", "2", "3"]
    assert [cell.record.exists() for cell in cells] == [True, False, True]


def test_the_figure_has_a_panel_for_each_task(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = {"agent": ["ppo", "ppo"], "seed": [1, 1], "steps": [5e4, 1e5], "success": [0.0, 0.5]}
    tables = [pd.DataFrame({**rows, "task": task}) for task in ("MiniGrid-A-v0", "MiniGrid-B-v0")]
    sparse_tasks.draw(pd.concat(tables), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
