"""What benchmarks of several trainings share."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import trainings
from trainings import Agent, Training, add_to, read_episodes, train_all

TASK = "MiniGrid-MultiRoom-N4-S5-v0"


def make_training(folder: Path, seed: int = 1, algo: str = "ppo") -> Training:
    return Training(TASK, "an agent", Agent(algo, Path("settings.yml"), ("n_envs:2",)), seed, 100_000, folder)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file with a program that takes the place of the Zoo."""
    path = tmp_path / "program.py"
    monkeypatch.setattr(trainings, "ZOO", [sys.executable, str(path)])
    return path


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restores the handlers of signals, which belong to the whole process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_command_is_that_of_the_zoo(tmp_path: Path) -> None:
    training = make_training(tmp_path / "x")
    assert training.command[1:5] == ["-m", "sb3_lwm.zoo", "train", "--env"]
    assert training.command[-2:] == ["-params", "n_envs:2"]
    assert {"--algo", "--conf-file"} < set(training.command)
    assert training.run == tmp_path / "x" / "ppo" / f"{TASK}_1"


def test_trainings_belong_to_their_own_processes_and_failures_are_named(script: Path, tmp_path: Path) -> None:
    # one process fails, the others write the number of their seed
    script.write_text(
        "import sys\n"
        "seed, folder = (sys.argv[sys.argv.index(name) + 1] for name in ('--seed', '-f'))\n"
        "open(folder + '/seed', 'w').write(seed)\n"
        "sys.exit(seed == '2')\n"
    )
    given = [make_training(tmp_path / f"cell{seed}", seed) for seed in (1, 2, 3)]
    with pytest.raises(SystemExit, match=r"an agent on .*, seed 2, has failed: see .*output\.txt"):
        train_all(given, jobs=2)
    assert [(training.folder / "seed").read_text() for training in given] == ["1", "2", "3"]
    assert [training.record.exists() for training in given] == [True, False, True]
    columns = given[0].columns()
    assert (columns["task"], columns["agent"], columns["seed"], columns["total_steps"]) == (TASK, "an agent", 1, 100_000)
    assert float(str(columns["cpu_seconds"])) > 0 and "ale_py" in columns
    # what is finished is not repeated
    script.write_text("raise SystemExit(1)")
    train_all([given[0], given[2]], jobs=1)


def test_an_interrupted_training_is_resumed_and_its_seconds_are_added(script: Path, tmp_path: Path) -> None:
    training = make_training(tmp_path / "cell", algo="lwm_dqn")
    state = training.run / "states" / "state_10"
    script.write_text(
        "import pathlib, sys, time\n"
        "if sys.argv[1] == 'resume':\n"
        "    sys.exit(sys.argv[2:] != [" + repr(str(training.run)) + "])\n"
        f"pathlib.Path({str(state)!r}).mkdir(parents=True)\n"
        "end = time.process_time() + 0.3\n"
        "while time.process_time() < end: pass\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )

    def interrupt() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit, match="Interrupted; the same command continues"):
        train_all([training], jobs=1)
    thread.join()
    assert not training.record.exists()
    first = json.loads((training.folder / "interrupted.json").read_text())["cpu_seconds"]
    assert first >= 0.3
    train_all([training], jobs=1)
    assert float(str(training.columns()["cpu_seconds"])) > first


def test_episodes_are_counted_in_steps_of_the_training(tmp_path: Path) -> None:
    training = make_training(tmp_path)
    training.run.mkdir(parents=True)
    for env, episodes in enumerate(([(0.0, 20_000), (0.5, 20_000)], [(1.0, 25_000), (0.0, 35_000)])):
        rows = "".join(f"{score},{length},{number}.0\n" for number, (score, length) in enumerate(episodes))
        (training.run / f"{env}.monitor.csv").write_text(f'#{{"t_start": 0.0, "env_id": "{TASK}"}}\nr,l,t\n{rows}')
    episodes = read_episodes(training)
    # the last one ended after the training
    assert dict(zip(episodes.steps, episodes.r, strict=True)) == {40_000: 0.0, 80_000: 0.5, 50_000: 1.0}


def test_rows_of_other_trainings_stay(tmp_path: Path) -> None:
    def rows(seed: int, value: float) -> pd.DataFrame:
        return pd.DataFrame({"steps": [2, 1], "value": value, "task": "A", "agent": "b", "seed": seed, "total_steps": 2})

    path = tmp_path / "results.csv"
    add_to(path, rows(1, 0.5))
    add_to(path, rows(2, 0.25))
    both = add_to(path, rows(2, 0.75))
    pd.testing.assert_frame_equal(pd.read_csv(path), both)
    assert both.seed.tolist() == [1, 1, 2, 2] and both.steps.tolist() == [1, 2, 1, 2]
    assert both.value.tolist() == [0.5, 0.5, 0.75, 0.75]
