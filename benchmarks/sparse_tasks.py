"""
Tasks whose reward is rare, with the intrinsic reward of the latent world model and without it::

    OMP_NUM_THREADS=1 python benchmarks/sparse_tasks.py --jobs 2 --output benchmarks/results/minigrid.csv
    OMP_NUM_THREADS=1 python benchmarks/sparse_tasks.py --jobs 2 --output benchmarks/results/mountain_car.csv \
        --tasks MountainCarContinuous-v0 --agents "sac + bonus" sac

Each training is one command of the RL Zoo with settings that ship (``hyperparams/minigrid-ppo.yml`` and its siblings), in a
folder of its own in ``--runs``. A finished training is not repeated; one that was interrupted begins again. The CSV gets a
row for each 50 000 steps of a training (5 000 on MountainCarContinuous): the mean return and the success rate of the
episodes that ended in them. Rows of other trainings in the CSV stay, so ``--tasks``, ``--agents`` and ``--seeds`` make the
table in parts. ``--figure`` draws the curves of all seeds in the CSV. RND, ICM, E3B and RE3 are those of RLeXplore, which
needs a Python environment of its own: see ``rlexplore_ppo.py``, and name its interpreter with ``--rlexplore-python``.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from stable_baselines3.common.monitor import get_monitor_files
from tqdm import tqdm
from versions import VERSIONS

from sb3_lwm.common.files import whole_file
from sb3_lwm.figures import save_figure


class Task(NamedTuple):
    """The number of steps of a training, and the number of steps that a row of the CSV is about."""

    steps: int
    interval: int = 50_000


TASKS = {
    "MiniGrid-MultiRoom-N4-S5-v0": Task(1_500_000),
    "MiniGrid-MultiRoom-N7-S4-v0": Task(1_500_000),
    "MiniGrid-MultiRoom-N7-S8-v0": Task(2_000_000),
    "MiniGrid-KeyCorridorS3R2-v0": Task(1_200_000),
    "MiniGrid-KeyCorridorS3R3-v0": Task(2_500_000),
    "MiniGrid-KeyCorridorS4R3-v0": Task(10_000_000),
    "MiniGrid-ObstructedMaze-1Dlh-v0": Task(2_000_000),
    "MiniGrid-DoorKey-8x8-v0": Task(1_000_000),
    "MiniGrid-MemoryS7-v0": Task(500_000),
    "MountainCarContinuous-v0": Task(30_000, interval=5_000),
}
HERE = Path(__file__).parent
SETTINGS = HERE.parent / "hyperparams"


class Agent(NamedTuple):
    """An algorithm with its settings."""

    algo: str
    conf_file: Path
    params: tuple[str, ...] = ()
    # the intrinsic reward of RLeXplore, with which rlexplore_ppo.py trains PPO
    rival: str | None = None


PPO = SETTINGS / "minigrid-ppo.yml"
RECURRENT_PPO = SETTINGS / "minigrid-ppo_lstm.yml"
DQN = HERE / "minigrid_dqn.yml"
BONUS = "callback:[{'sb3_lwm.IntrinsicRewardCallback':{}}]"
AGENTS = {
    "ppo + bonus": Agent("ppo", PPO),
    "ppo": Agent("ppo", PPO, ("callback:None",)),
    "ppo_lstm + bonus": Agent("ppo_lstm", RECURRENT_PPO),
    "ppo_lstm": Agent("ppo_lstm", RECURRENT_PPO, ("callback:None",)),
    "dqn + bonus": Agent("dqn", DQN, (BONUS,)),
    "dqn": Agent("dqn", DQN),
    "sac + bonus": Agent("sac", SETTINGS / "classic_control-sac.yml"),
    "sac": Agent("sac", SETTINGS / "classic_control-sac.yml", ("callback:None",)),
    "lwm_dqn": Agent("lwm_dqn", SETTINGS / "minigrid.yml"),
    **{f"ppo + {name}": Agent("ppo", PPO, rival=name) for name in ("RND", "ICM", "E3B", "RE3")},
}


class Cell(NamedTuple):
    """A training."""

    task: str
    agent: str
    seed: int
    steps: int
    folder: Path

    @property
    def run(self) -> Path:
        """:return: The folder of its run"""
        return self.folder / AGENTS[self.agent].algo / f"{self.task}_1"

    @property
    def record(self) -> Path:
        """:return: The file that a finished training has: its CPU seconds and the versions of packages"""
        return self.folder / "finished.json"

    def command(self, rlexplore_python: str | None = None) -> list[str]:
        """
        :param rlexplore_python: The Python interpreter that can import ``rllte``
        :return: The command that trains the agent
        """
        agent = AGENTS[self.agent]
        what = ["--env", self.task, "--seed", str(self.seed), "-n", str(self.steps), "-f", str(self.folder)]
        if agent.rival is not None:
            return [str(rlexplore_python), str(HERE / "rlexplore_ppo.py"), "--reward", agent.rival, *what]
        how = ["--algo", agent.algo, "--num-threads", "1", "--eval-freq", "-1", "--verbose", "0"]
        changes = ["-params", *agent.params] if agent.params else []
        return [sys.executable, "-m", "sb3_lwm.zoo", "train", *what, *how, "--conf-file", str(agent.conf_file), *changes]


def train(cell: Cell, rlexplore_python: str | None = None) -> "subprocess.Popen[bytes]":
    """
    :param cell: A training that is not finished
    :param rlexplore_python: The Python interpreter that can import ``rllte``
    :return: Its process, whose output is in a file of its folder
    """
    shutil.rmtree(cell.folder, ignore_errors=True)
    cell.folder.mkdir(parents=True)
    with open(cell.folder / "output.txt", "wb") as file:
        return subprocess.Popen(
            cell.command(rlexplore_python), stdout=file, stderr=file, env={"OMP_NUM_THREADS": "1", **os.environ}
        )


def train_all(cells: list[Cell], jobs: int, rlexplore_python: str | None = None) -> None:
    """
    :param cells: The trainings that are not finished
    :param jobs: The number of trainings at a time
    :param rlexplore_python: The Python interpreter that can import ``rllte``
    :raises SystemExit: If a training fails; names its output
    """
    waiting = list(cells)
    running: dict[int, tuple[Cell, float, subprocess.Popen[bytes]]] = {}
    failed = []
    with tqdm(total=len(cells), desc="Training", unit="training", mininterval=1.0, disable=None) as bar:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                process = train(cell, rlexplore_python)
                running[process.pid] = (cell, time.monotonic(), process)
            # the CPU time of a process is known when it ends
            pid, status, usage = os.wait4(-1, 0)
            cell, started, process = running.pop(pid)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode == 0:
                seconds = {"cpu_seconds": usage.ru_utime + usage.ru_stime, "wall_seconds": time.monotonic() - started}
                with whole_file(cell.record) as temporary:
                    temporary.write_text(json.dumps({**seconds, **VERSIONS}), encoding="utf-8")
            else:
                failed.append(f"{cell.agent} on {cell.task}, seed {cell.seed}, has failed: see {cell.folder / 'output.txt'}")
            bar.update()
    if failed:
        raise SystemExit("\n".join(failed))


def curve(cell: Cell) -> pd.DataFrame:
    """
    :param cell: A finished training
    :return: The mean return and the success rate of the episodes that ended in each interval
    """
    files = get_monitor_files(str(cell.run))
    tables = [pd.read_csv(file, skiprows=1, dtype=float).assign(env=number) for number, file in enumerate(files)]
    episodes = pd.concat(tables, ignore_index=True)
    # a step of the training is a step of one environment; all environments take theirs together
    interval = TASKS[cell.task].interval
    steps = episodes.groupby("env").l.cumsum() * len(files)
    episodes = episodes[steps <= cell.steps].assign(steps=np.ceil(steps / interval) * interval, success=episodes.r > 0)
    groups = episodes.groupby("steps")
    table = pd.DataFrame({"mean_return": groups.r.mean(), "success": groups.success.mean(), "episodes": groups.size()})
    record = json.loads(cell.record.read_text(encoding="utf-8"))
    return table.reset_index().assign(task=cell.task, agent=cell.agent, seed=cell.seed, total_steps=cell.steps, **record)


KEY = ["task", "agent", "seed", "total_steps"]


def add_to(path: Path, results: pd.DataFrame) -> pd.DataFrame:
    """
    :param path: A CSV, which need not exist
    :param results: New rows
    :return: The new rows, and those of other trainings in the CSV
    """
    if path.exists():
        earlier = pd.read_csv(path)
        old, new = (pd.MultiIndex.from_frame(part[KEY]) for part in (earlier, results))
        results = pd.concat([earlier[~old.isin(new)], results], ignore_index=True)
    first = [*KEY, "steps", "mean_return", "success", "episodes"]
    ordered = results[[*first, *(name for name in results if name not in first)]]
    return ordered.sort_values([*KEY, "steps"], ignore_index=True)


def draw(results: pd.DataFrame, path: Path) -> None:
    """
    :param results: The rows of the CSV
    :param path: The picture to write: the success rate against steps, a panel for each task, a thin line for each seed
    """
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(results.task))
    size = (4.2 * len(tasks), 3.2)
    figure, axes = plt.subplots(1, len(tasks), figsize=size, squeeze=False, sharey=True, layout="constrained")
    colours = {agent: f"C{number}" for number, agent in enumerate(sorted(set(results.agent), reverse=True))}
    for axis, task in zip(axes[0], tasks, strict=True):
        for (agent, _), rows in results[results.task == task].groupby(["agent", "seed"]):
            axis.plot(rows.steps / 1e6, rows.success, color=colours[agent], linewidth=1.0, alpha=0.8)
        axis.set_title(task.removeprefix("MiniGrid-").removesuffix("-v0"), fontsize=10)
        axis.set_xlabel("million steps")
        axis.set_ylim(-0.03, 1.03)
    axes[0, 0].set_ylabel("success rate of training episodes")
    handles = [plt.Line2D([], [], color=colour, label=agent) for agent, colour in colours.items()]
    axes[0, 0].legend(handles=handles, loc="upper left", frameon=False)
    save_figure(figure, path)


def parse() -> argparse.Namespace:
    """:return: The options of the command line"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["MiniGrid-MultiRoom-N4-S5-v0"], choices=list(TASKS))
    parser.add_argument("--agents", nargs="+", default=["ppo + bonus", "ppo"], choices=list(AGENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102])
    parser.add_argument("--steps", type=int, help="The number of steps, by default that of the task")
    parser.add_argument("--jobs", type=int, default=1, help="The number of trainings at a time")
    parser.add_argument("--rlexplore-python", help="The Python interpreter of an environment with rllte-core")
    parser.add_argument("--runs", type=Path, default=Path("minigrid_runs"), help="The folder of the trainings")
    parser.add_argument("--output", type=Path, required=True, help="The CSV to write")
    parser.add_argument("--figure", type=Path, help="The picture to draw of all rows in the CSV, PNG or SVG")
    options = parser.parse_args()
    rivals = [agent for agent in options.agents if AGENTS[agent].rival is not None]
    if rivals and options.rlexplore_python is None:
        parser.error(f"--agents {' '.join(rivals)}: name the interpreter that has rllte-core with --rlexplore-python.")
    return options


def main() -> None:
    """Train, write the CSV, print a table, draw the picture."""
    options = parse()
    cells = []
    for seed, task, agent in itertools.product(options.seeds, options.tasks, options.agents):
        steps = options.steps or TASKS[task].steps
        folder = options.runs.resolve() / f"{task}_{agent.replace(' ', '')}_{seed}_{steps}"
        cells.append(Cell(task, agent, seed, steps, folder))
    train_all([cell for cell in cells if not cell.record.exists()], options.jobs, options.rlexplore_python)
    results = add_to(options.output, pd.concat([curve(cell) for cell in cells], ignore_index=True))
    with whole_file(options.output) as temporary:
        results.to_csv(temporary, index=False, float_format="%.6g")
    last = results[results.steps > 0.9 * results.total_steps].groupby(KEY)
    print(last[["mean_return", "success", "cpu_seconds"]].mean().round(3).to_string())
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
