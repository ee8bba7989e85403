"""The harness of the labyrinth results: its trainings, their evaluation, and the table."""

import argparse
import sys
from pathlib import Path
from typing import Any

import labyrinth
import labyrinth_trainings as trainings
import numpy as np
import pandas as pd
import pytest


def parse(folder: Path, *arguments: str) -> argparse.Namespace:
    given = ["--runs", str(folder), "--output", str(folder / "out.csv"), *arguments]
    return labyrinth.parse(labyrinth.AGENTS, "", {"sizes": [3]}, given)


def make_cell(options: argparse.Namespace, name: str = "no-world-model") -> labyrinth.Cell:
    return next(cell for cell in labyrinth.make_cells(options, labyrinth.AGENTS) if cell.name == name)


def leave(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_cells_of_a_benchmark(tmp_path: Path) -> None:
    cells = labyrinth.make_cells(parse(tmp_path, "--sizes", "3", "5", "--agents", "search", "lwm_dqn"), labyrinth.AGENTS)
    assert [(cell.size, cell.name, cell.seed) for cell in cells] == [
        (n, "lwm_dqn", seed) for n in (3, 5) for seed in (100, 101, 102)
    ]
    # other settings never take over these trainings
    others = labyrinth.make_cells(parse(tmp_path, "--params", "gamma:0.9", "policy:'A'"), labyrinth.AGENTS)
    assert not {cell.logs for cell in cells} & {cell.logs for cell in others}
    assert others[0].logs.name == "labyrinth-gamma-0.9-policy-A-_no-world-model_3_100_1000000_100000"
    for longer in (["--steps", "2000000"], ["--interval", "50000"]):
        assert not {cell.logs for cell in cells} & {
            cell.logs for cell in labyrinth.make_cells(parse(tmp_path, *longer), labyrinth.AGENTS)
        }


def test_command_of_a_new_training(tmp_path: Path) -> None:
    options = parse(tmp_path, "--conf-file", "labyrinth-paper", "--params", "gamma:0.9")
    cell = make_cell(options)
    # from a run that never came to its first state
    leave(cell.run / "0.monitor.csv")
    text = " ".join(trainings.command(cell, options))
    assert not cell.logs.exists()
    assert "train --algo lwm_dqn --env POL-3x3-v0 --seed 100 -n 1000000" in text and f"-f {cell.logs}" in text
    assert "--conf-file labyrinth-paper" in text and text.endswith("-params use_world_model:False gamma:0.9")
    options = parse(tmp_path)
    assert "-params" not in trainings.command(make_cell(options, "lwm_dqn"), options)


def test_command_of_a_stopped_training(tmp_path: Path) -> None:
    options = parse(tmp_path)
    cell = make_cell(options)
    (cell.run / "states" / "state_800").mkdir(parents=True)
    assert trainings.command(cell, options)[-2:] == ["resume", str(cell.run)]


class Training:
    """In place of a process: leaves models, and ends."""

    pid = 0

    def __init__(self, cell: trainings.Cell, steps: list[int], returncode: int | None) -> None:
        self.returncode = returncode
        self.signals: list[int] = []
        for step in steps:
            leave(cell.run / f"rl_model_{step}_steps.zip")

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.signals.append(number)
        self.returncode = 0


SHORT_TRAINING = ("--steps", "200", "--interval", "100")


def test_failed_trainings_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is finished, one ends well, one without its last model, one with an error; two at a time."""
    options = parse(tmp_path, *SHORT_TRAINING, "--agents", "no-world-model", "--seeds", "1", "2", "3", "4", "--jobs", "2")
    cells = labyrinth.make_cells(options, labyrinth.AGENTS)
    Training(cells[0], [100, 200], 0)
    started: list[int] = []

    def start(cell: trainings.Cell, options: argparse.Namespace) -> Training:
        started.append(cell.seed)
        return Training(cell, [100, 200] if cell.seed == 2 else [100], int(cell.seed == 4))

    monkeypatch.setattr(trainings, "start", start)
    monkeypatch.setattr(trainings.time, "sleep", lambda seconds: None)
    failures = trainings.train_all(cells, options, [])
    assert started == [2, 3, 4]
    assert [failure.split("ended")[0] for failure in failures] == [
        f"The training of {cells[0].name}, size 3, seed {n} " for n in (3, 4)
    ]
    assert "exit code 0 and 1 of its 2 models, one every 100 steps" in failures[0] and "exit code 1" in failures[1]
    assert failures[0].endswith(f"{cells[2].logs}.txt.")


def test_interruption_stops_all_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = parse(tmp_path, *SHORT_TRAINING, "--agents", "no-world-model", "--seeds", "1", "2", "3", "--jobs", "2")
    running: list[Training] = []

    def start(cell: trainings.Cell, options: argparse.Namespace) -> Training:
        running.append(Training(cell, [], None))
        return running[-1]

    interruptions: list[int] = []
    monkeypatch.setattr(trainings, "start", start)
    monkeypatch.setattr(trainings.time, "sleep", lambda seconds: interruptions.append(2))
    assert trainings.train_all(labyrinth.make_cells(options, labyrinth.AGENTS), options, interruptions) == []
    assert [training.signals for training in running] == [[2], [2]]


def test_finished_trainings_are_written_when_another_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labyrinth, "handle_interruptions", lambda handler: None)
    monkeypatch.setattr(labyrinth, "train_all", lambda cells, options, interruptions: ["The training of b failed."])
    row = {"size": 3, "agent": "no-world-model", "kind": "evaluation", "mean_steps": 20.0}
    monkeypatch.setattr(labyrinth, "trained_rows", lambda cell, every: pd.DataFrame([{**row, "seed": cell.seed}]))
    given = ["--runs", str(tmp_path), "--output", str(tmp_path / "out.csv"), *SHORT_TRAINING, "--sizes", "3"]
    options = parse(tmp_path, *SHORT_TRAINING)
    Training(make_cell(options), [100, 200], 0)
    with pytest.raises(SystemExit, match="The training of b failed"):
        labyrinth.main(arguments=[*given, "--agents", "no-world-model"])
    assert pd.read_csv(tmp_path / "out.csv").seed.tolist() == [100]


def test_output_of_a_training_is_written_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        trainings, "command", lambda cell, options: [sys.executable, "-c", "print('Hello'); raise SystemExit(3)"]
    )
    options = parse(tmp_path, "--seeds", "100", "--agents", "no-world-model")
    (failure,) = trainings.train_all([make_cell(options)], options, [])
    assert "exit code 3" in failure and "Hello" in Path(failure.split("see ")[1].rstrip(".")).read_text()
    # written at the start: the training may end after its benchmark has
    assert make_cell(options).versions() == trainings.VERSIONS


def test_learning_curve_of_a_run(tmp_path: Path) -> None:
    # two environments: a step of one is two of the run
    for env, lengths in enumerate(([30, 10, 40, 21], [60])):
        rows = "\n".join(f"-{length},{length},{10 * env + number}" for number, length in enumerate(lengths))
        (tmp_path / f"{env}.monitor.csv").write_text(f'#{{"t_start": 0, "env_id": "POL"}}\nr,l,t\n{rows}\n')
    curve = labyrinth.learning_curve(tmp_path, 100, last=200)
    # ends at 60, 80, 160 and 202 of the first, at 120 of the second; a rollout went beyond the run's 200 steps
    assert curve.steps.tolist() == [100, 200] and curve.episodes.tolist() == [2, 2]
    assert curve.mean_steps.tolist() == [20, 50] and curve.standard_deviation.tolist() == [10, 10]
    assert curve.wall_seconds.tolist() == [1, 10]


def test_wall_time_of_a_resumed_training(tmp_path: Path) -> None:
    (tmp_path / "0.monitor.csv").write_text(
        '#{"t_start": 0, "env_id": "POL"}\nr,l,t\n-9,9,5\n-9,9,60\n-9,9,4\n-9,9,9\n-9,9,2\n'
    )
    curve = labyrinth.learning_curve(tmp_path, 9, last=45)
    assert curve.wall_seconds.tolist() == [5, 60, 64, 69, 71]


def test_bounds_without_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(labyrinth, "bound", lambda name, size: np.array([10, 20 + size]))
    output = tmp_path / "out.csv"
    labyrinth.main(arguments=["--sizes", "3", "5", "--agents", "search", "--output", str(output), "--runs", str(tmp_path)])
    assert pd.read_csv(output).mean_steps.tolist() == [16.5, 17.5]
    assert "| search | 16.5 | 17.5 |" in capsys.readouterr().out


def test_table_is_extended_and_replaced_row_by_row(tmp_path: Path) -> None:
    def rows(size: int, agent: str, seed: float, value: float, settings: str | None = "labyrinth") -> pd.DataFrame:
        part = pd.DataFrame([{"size": size, "agent": agent, "seed": seed, "settings": settings, "mean_steps": value}])
        # bounds alone have no column of settings
        return part.dropna(axis=1)

    def agents(table: pd.DataFrame) -> list[tuple[int, str, float]]:
        return list(table[["size", "agent", "mean_steps"]].itertuples(index=False, name=None))

    path = tmp_path / "out.csv"
    bound = rows(3, "search", np.nan, 11.0, None)
    for new in (
        rows(4, "lwm_dqn", 1.0, 1.0),
        rows(3, "lwm_dqn", 1.0, 2.0),
        bound,
        rows(3, "lwm_dqn", 1.0, 3.0, "labyrinth-paper"),
    ):
        labyrinth.write(labyrinth.add_to(path, new, ["search", "lwm_dqn"]), path)
    assert agents(pd.read_csv(path)) == [(3, "search", 11.0), (3, "lwm_dqn", 2.0), (3, "lwm_dqn", 3.0), (4, "lwm_dqn", 1.0)]
    # the same again takes the place of what was there
    for new in (bound.assign(mean_steps=12.0), rows(3, "lwm_dqn", 1.0, 4.0)):
        labyrinth.write(labyrinth.add_to(path, new, ["search", "lwm_dqn"]), path)
    assert agents(pd.read_csv(path)) == [(3, "search", 12.0), (3, "lwm_dqn", 3.0), (3, "lwm_dqn", 4.0), (4, "lwm_dqn", 1.0)]
    # a longer training of the same settings is another one
    for new in (rows(4, "lwm_dqn", 1.0, 5.0).assign(steps=200), rows(4, "lwm_dqn", 1.0, 6.0).assign(steps=100)):
        labyrinth.write(labyrinth.add_to(path, new, ["search", "lwm_dqn"]), path)
    assert agents(pd.read_csv(path))[3:] == [(4, "lwm_dqn", 1.0), (4, "lwm_dqn", 5.0), (4, "lwm_dqn", 6.0)]


def test_rows_have_the_order_of_the_agents(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    for agent in ("an older one", "recurrent-ppo", "complete", "recurrent-ppo"):
        row = {"size": 4, "agent": agent, "seed": 1.0, "settings": "labyrinth"}
        labyrinth.write(labyrinth.add_to(path, pd.DataFrame([row]), ["complete", "recurrent-ppo"]), path)
    assert pd.read_csv(path).agent.tolist() == ["complete", "recurrent-ppo", "an older one"]


def test_every_model_is_evaluated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = make_cell(parse(tmp_path, *SHORT_TRAINING))
    for steps in (100, 200):
        leave(cell.run / f"rl_model_{steps}_steps.zip")
    calls: list[tuple[Any, ...]] = []

    def score(*arguments: Any) -> dict[str, float]:
        calls.append(arguments)
        return {"mean_score": -arguments[2] / 10, "standard_deviation": 2.0, "episodes": 1024, "minimum": -30}

    monkeypatch.setattr(labyrinth, "score", score)
    assert labyrinth.evaluate(cell, 200).steps.tolist() == [200]
    first, again = labyrinth.evaluate(cell, 100), labyrinth.evaluate(cell, 100)
    # to the end of the labyrinth's own time, whatever the training's was
    assert calls == [(cell.run, 1024, steps, ["max_episode_steps:1000"], 0.01) for steps in (200, 100)]
    assert first.mean_steps.tolist() == again.mean_steps.tolist() == [20.0, 10.0]
    assert list(first.columns[:6]) == ["steps", "mean_steps", "standard_deviation", "episodes", "wall_seconds", "kind"]
    assert set(first.torch) == {labyrinth.VERSIONS["torch"]}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--jobs", "0"],
        ["--steps", "150", "--interval", "100"],
        ["--steps", "0"],
        ["--evaluate-every", "150000"],
        ["--evaluate-every", "300000"],
        ["--sizes", "9"],
        ["--seeds", "1", "1"],
        ["--agents", "no-world-model", "no-world-model"],
    ],
)
def test_bad_options_are_refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(tmp_path, *arguments)
    assert arguments[0] in capsys.readouterr().err
