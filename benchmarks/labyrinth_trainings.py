"""The trainings of ``labyrinth.py`` and ``ablations.py``, and their execution in parallel processes."""

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm
from versions import VERSIONS

from sb3_lwm.common.files import whole_file
from sb3_lwm.training_state.files import find_states
from sb3_lwm.zoo.processes import stop

HERE = Path(__file__).parent
# The module with the policies of the ablations
VARIANTS = "labyrinth_variants"


class Agent(NamedTuple):
    """An algorithm with its settings."""

    algo: str = "lwm_dqn"
    # the values of the Zoo's -params
    params: tuple[str, ...] = ()
    # the settings that replace those of the package
    conf_file: str | None = None


class Cell(NamedTuple):
    """A training with its own log folder."""

    size: int
    name: str
    agent: Agent
    seed: int
    # the name of its settings
    settings: str
    # the numbers of steps of the whole training, and between two saved models
    steps: int
    interval: int
    logs: Path

    @property
    def env_id(self) -> str:
        """:return: The id of the labyrinth"""
        return f"POL-{self.size}x{self.size}-v0"

    @property
    def run(self) -> Path:
        """:return: The folder of its run"""
        return self.logs / self.agent.algo / f"{self.env_id}_1"

    def checkpoints(self) -> dict[int, Path]:
        """:return: The models saved so far, by their numbers of steps"""
        steps = range(self.interval, self.steps + 1, self.interval)
        paths = {step: self.run / f"rl_model_{step}_steps.zip" for step in steps}
        return {step: path for step, path in paths.items() if path.exists()}

    def is_finished(self) -> bool:
        """:return: Whether all its models are saved"""
        return len(self.checkpoints()) == self.steps // self.interval

    def versions(self) -> dict[str, str]:
        """:return: The versions of the packages with which the training was started or last continued"""
        return pd.read_csv(self.logs / "versions.csv", dtype=str).iloc[0].to_dict()


def make_cells(options: argparse.Namespace, agents: Mapping[str, Agent]) -> list[Cell]:
    """
    :param options: The options of the command line
    :param agents: The agents that can be trained, by name
    :return: The trainings; their folders depend on settings and lengths
    """
    cells = []
    trained = [name for name in options.agents if name in agents]
    for size, name, seed in itertools.product(options.sizes, trained, options.seeds):
        agent = agents[name]
        settings = " ".join([Path(agent.conf_file or options.conf_file or "labyrinth").stem, *options.params])
        folder = re.sub(r"[^\w.-]+", "-", f"{settings}_{name}_{size}_{seed}_{options.steps}_{options.interval}")
        cells.append(Cell(size, name, agent, seed, settings, options.steps, options.interval, options.runs / folder))
    return cells


def command(cell: Cell, options: argparse.Namespace) -> list[str]:
    """
    :param cell: An unfinished training
    :param options: The options of the command line
    :return: The command that starts or resumes it; algorithms other than LWMDQN save no states, and start again
    """
    zoo = [sys.executable, "-m", "sb3_lwm.zoo"]
    if find_states(cell.run / "states"):
        return [*zoo, "resume", str(cell.run)]
    # an interrupted run without a state is removed, since a second run would get another number
    shutil.rmtree(cell.logs, ignore_errors=True)
    what = ["--algo", cell.agent.algo, "--env", cell.env_id, "--seed", str(cell.seed), "-n", str(cell.steps)]
    how = ["--num-threads", "1", "--eval-freq", "-1", "--save-freq", str(cell.interval), "-f", str(cell.logs)]
    conf_file = cell.agent.conf_file or options.conf_file
    conf = ["--conf-file", conf_file] if conf_file else []
    changes = [*cell.agent.params, *options.params]
    packages = ["--gym-packages", VARIANTS] if cell.agent.algo == "lwm_dqn" else []
    return [*zoo, "train", *what, *how, *conf, *packages, *(["-params", *changes] if changes else [])]


def start(cell: Cell, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    """
    :param cell: An unfinished training
    :param options: The options of the command line
    :return: The process of the training, whose output goes to a file beside its logs
    """
    arguments = command(cell, options)
    cell.logs.mkdir(parents=True, exist_ok=True)
    write(pd.DataFrame([VERSIONS]), cell.logs / "versions.csv")
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}
    with open(_output(cell), "a", encoding="utf-8") as file:
        return subprocess.Popen(arguments, stdout=file, stderr=file, env=variables, start_new_session=True)


def _output(cell: Cell) -> Path:
    return cell.logs.with_name(f"{cell.logs.name}.txt")


def train_all(cells: Sequence[Cell], options: argparse.Namespace, interruptions: Sequence[int]) -> list[str]:
    """
    Run the unfinished trainings, ``options.jobs`` in parallel, and show their progress.

    :param cells: All trainings
    :param options: The options of the command line
    :param interruptions: The received signals; the first one stops all trainings
    :return: A message for each failed training, with the path of its output
    """
    waiting = [cell for cell in cells if not cell.is_finished()]
    running: list[tuple[Cell, subprocess.Popen[bytes]]] = []
    failures: list[str] = []
    total, done = sum(cell.steps // cell.interval for cell in cells), sum(len(cell.checkpoints()) for cell in cells)
    unit, disable = f"{options.interval} steps", not cells
    with tqdm(total=total, initial=done, desc="Training", unit=unit, mininterval=1.0, disable=disable) as bar:
        try:
            while (waiting or running) and not interruptions:
                while waiting and len(running) < options.jobs:
                    running.append((waiting[0], start(waiting[0], options)))
                    del waiting[0]
                time.sleep(1.0)
                ended = [(cell, process) for cell, process in running if process.poll() is not None]
                failures += [failure for cell, process in ended if (failure := _end(cell, process.returncode))]
                running = [pair for pair in running if pair not in ended]
                if n_new := sum(len(cell.checkpoints()) for cell in cells) - bar.n:
                    bar.update(n_new)
        finally:
            stop({_label(cell): process for cell, process in running}, interruptions, tqdm.write)
    return failures


def _end(cell: Cell, code: int) -> str | None:
    if code == 0 and cell.is_finished():
        return None
    return (
        f"The training of {_label(cell)} ended with exit code {code} and {len(cell.checkpoints())} of its "
        f"{cell.steps // cell.interval} models, one every {cell.interval} steps, see {_output(cell)}."
    )


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV completely or not at all."""
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def _label(cell: Cell) -> str:
    return f"{cell.name}, size {cell.size}, seed {cell.seed}"
