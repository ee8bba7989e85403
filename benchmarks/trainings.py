"""Functions that benchmarks of trainings share: parallel commands of the RL Zoo, each in a separate folder."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
from stable_baselines3.common.monitor import get_monitor_files
from tqdm import tqdm
from versions import VERSIONS

from sb3_lwm.common.files import whole_file
from sb3_lwm.training_state.files import find_states
from sb3_lwm.zoo.processes import handle_interruptions, stop

HERE = Path(__file__).parent
# The folder of the package's settings
SETTINGS = HERE.parent / "hyperparams"
# The columns that identify a training
KEY = ["task", "agent", "seed", "total_steps"]
ZOO = [sys.executable, "-m", "sb3_lwm.zoo"]


class Agent(NamedTuple):
    """An algorithm with its settings."""

    algo: str
    conf_file: Path
    params: tuple[str, ...] = ()
    # an interpreter and a script with its options, which trains instead of the RL Zoo
    script: tuple[str, ...] = ()


class Training(NamedTuple):
    """A training of an agent with its own folder."""

    task: str
    name: str
    agent: Agent
    seed: int
    steps: int
    folder: Path

    @property
    def run(self) -> Path:
        """:return: The folder of its run"""
        return self.folder / self.agent.algo / f"{self.task}_1"

    @property
    def record(self) -> Path:
        """:return: The file of a finished training, with its CPU and wall seconds and the versions of packages"""
        return self.folder / "finished.json"

    @property
    def command(self) -> list[str]:
        """:return: The command that starts it"""
        what = ["--env", self.task, "--seed", str(self.seed), "-n", str(self.steps), "-f", str(self.folder)]
        if self.agent.script:
            return [*self.agent.script, *what]
        how = ["--algo", self.agent.algo, "--num-threads", "1", "--eval-freq", "-1", "--verbose", "0"]
        changes = ["-params", *self.agent.params] if self.agent.params else []
        return [*ZOO, "train", *what, *how, "--conf-file", str(self.agent.conf_file), *changes]

    def columns(self) -> dict[str, object]:
        """:return: The columns that are the same in all rows of this training, which must be finished"""
        key = dict(zip(KEY, (self.task, self.name, self.seed, self.steps), strict=True))
        return {**key, **json.loads(self.record.read_text(encoding="utf-8"))}


class _Running(NamedTuple):
    """A running training, and its CPU and wall seconds before it was interrupted."""

    training: Training
    process: "subprocess.Popen[bytes]"
    started: float
    earlier: dict[str, float]

    def seconds(self, cpu: float) -> dict[str, float]:
        """Return the total CPU and wall seconds."""
        own = {"cpu_seconds": cpu, "wall_seconds": time.monotonic() - self.started}
        return {name: own[name] + self.earlier.get(name, 0.0) for name in own}


def _start(training: Training) -> _Running:
    """Start a training, or resume it if it has a state; its output goes to a file in its folder."""
    command, interrupted = training.command, training.folder / "interrupted.json"
    earlier: dict[str, float] = {}
    if find_states(training.run / "states"):
        command = [*ZOO, "resume", str(training.run)]
        earlier = json.loads(interrupted.read_text(encoding="utf-8")) if interrupted.exists() else {}
    else:
        shutil.rmtree(training.folder, ignore_errors=True)
    training.folder.mkdir(parents=True, exist_ok=True)
    with open(training.folder / "output.txt", "ab") as file:
        variables = {"OMP_NUM_THREADS": "1", **os.environ}
        process = subprocess.Popen(command, stdout=file, stderr=file, env=variables, start_new_session=True)
    return _Running(training, process, time.monotonic(), earlier)


def train_all(trainings: Sequence[Training], jobs: int) -> None:
    """
    Run the unfinished trainings, with a progress bar. An interruption interrupts them and waits for their ends: those of
    LWMDQN then save their state, and are resumed by the next call with the same trainings; others start again.

    :param trainings: The trainings
    :param jobs: The number of parallel trainings
    :raises SystemExit: If it is interrupted, or a training fails; the message names the output of the training
    """
    interruptions: list[int] = []
    handle_interruptions(lambda number, _: interruptions.append(number))
    waiting = [training for training in trainings if not training.record.exists()]
    running: list[_Running] = []
    failed: list[str] = []
    done, disable = len(trainings) - len(waiting), None if waiting else True
    with tqdm(total=len(trainings), initial=done, desc="Training", unit="training", disable=disable) as bar:
        try:
            while (waiting or running) and not interruptions:
                while waiting and len(running) < jobs:
                    running.append(_start(waiting.pop(0)))
                time.sleep(0.5)
                for each in list(running):
                    # the CPU time of a process is known at its end
                    pid, status, usage = os.wait4(each.process.pid, os.WNOHANG)
                    if pid == 0:
                        continue
                    running.remove(each)
                    each.process.returncode = os.waitstatus_to_exitcode(status)
                    _end(each, usage.ru_utime + usage.ru_stime, failed)
                    bar.update()
        finally:
            _interrupt(running, interruptions)
    if interruptions:
        raise SystemExit("Interrupted; the same command continues.")
    if failed:
        raise SystemExit("\n".join(failed))


def _end(running: _Running, cpu: float, failed: list[str]) -> None:
    training = running.training
    if running.process.returncode == 0:
        _write(training.record, {**running.seconds(cpu), **VERSIONS})
    else:
        what = f"{training.name} on {training.task}, seed {training.seed}"
        failed.append(f"{what}, has failed: see {training.folder / 'output.txt'}")


def _interrupt(running: Sequence[_Running], interruptions: Sequence[int]) -> None:
    """Stop trainings, and save their times."""
    for each in running:
        times = psutil.Process(each.process.pid).cpu_times()
        _write(each.training.folder / "interrupted.json", each.seconds(times.user + times.system))
    stop({each.training.folder.name: each.process for each in running}, interruptions, tqdm.write)


def _write(path: Path, content: Mapping[str, object]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def read_episodes(training: Training) -> pd.DataFrame:
    """
    :param training: A training whose environments take their steps together
    :return: The return ``r`` and the length ``l`` of each episode in the files of its Monitors, and ``steps``, the number of
        steps of the training by the end of the episode
    """
    files = sorted(get_monitor_files(str(training.run)))
    tables = [pd.read_csv(file, skiprows=1, dtype=float).assign(env=number) for number, file in enumerate(files)]
    episodes = pd.concat(tables, ignore_index=True)
    # the steps of a training are those of all environments
    episodes["steps"] = episodes.groupby("env").l.cumsum() * len(files)
    return episodes[episodes.steps <= training.steps]


def add_to(path: Path, results: pd.DataFrame) -> pd.DataFrame:
    """
    Write new rows to a CSV.

    :param path: The CSV, which need not exist
    :param results: The new rows
    :return: The rows of the CSV: the new ones, and its earlier rows of other trainings
    """
    if path.exists():
        earlier = pd.read_csv(path)
        old, new = (pd.MultiIndex.from_frame(part[KEY]) for part in (earlier, results))
        results = pd.concat([earlier[~old.isin(new)], results], ignore_index=True)
    first = [*KEY, "steps"]
    ordered = results[[*first, *(name for name in results if name not in first)]]
    ordered = ordered.sort_values(first, ignore_index=True)
    with whole_file(path) as temporary:
        ordered.to_csv(temporary, index=False, float_format="%.6g")
    return ordered


def add_options(parser: argparse.ArgumentParser, runs: str) -> None:
    """
    :param parser: The parser, to which the common options of all benchmarks of trainings are added
    :param runs: The default of the folder of the trainings
    """
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102], help="The seeds of the trainings")
    parser.add_argument("--steps", type=int, help="The number of steps, by default that of the task")
    parser.add_argument("--jobs", type=int, default=1, help="The number of parallel trainings")
    parser.add_argument("--runs", type=Path, default=Path(runs), help="The folder of the trainings")
    parser.add_argument("--output", type=Path, required=True, help="The CSV to write")
    parser.add_argument("--figure", type=Path, help="The picture to draw of all rows in the CSV, PNG or SVG")


def folder_of(runs: Path, task: str, name: str, seed: int, steps: int) -> Path:
    """
    :param runs: The folder of the trainings
    :param task: The id of the environment
    :param name: The name of the agent
    :param seed: The seed of the training
    :param steps: The number of steps of the training
    :return: The folder of the training
    """
    return runs.resolve() / f"{task}_{name.replace(' ', '')}_{seed}_{steps}"
