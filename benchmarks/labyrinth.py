"""
Steps that it takes to visit every cell of a labyrinth: of trained agents, and of the bounds between which they lie::

    OMP_NUM_THREADS=1 python benchmarks/labyrinth.py --jobs 2 --runs labyrinth_runs --output benchmarks/results/labyrinth.csv

Sizes 3, 4 and 5, seeds 100, 101 and 102 of the agent with its world model and without it are trained with the RL Zoo and the
settings that ship; ``--conf-file labyrinth-paper`` takes those of the paper. What was interrupted goes on where it stopped,
what is finished is not trained again. The CSV gets a row for each 100 000 steps of a training (mean of the episodes that ended
in them), one for each evaluation there (128 episodes, 1 % of the actions at random), and one for each bound (a random walk,
depth-first search with a perfect memory, the shortest walk of somebody who knows the map).
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from labyrinth_bounds import BOUNDS, bound
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import get_monitor_files
from stable_baselines3.common.utils import set_random_seed
from tqdm import tqdm
from versions import VERSIONS

from sb3_lwm import LWMDQN
from sb3_lwm.evaluation import play_games
from sb3_lwm.training_state.files import find_states

# its environments' seeds are those of no training
EVALUATION_SEED, EVALUATION_EPISODES = 10_000, 128
# agents that are trained, and what they change in the settings
TRAINED: dict[str, list[str]] = {"dqn": ["use_world_model:False"], "lwm_dqn": []}


class Cell(NamedTuple):
    """A training."""

    size: int
    agent: str
    seed: int

    @property
    def env_id(self) -> str:
        """:return: of the labyrinth"""
        return f"POL-{self.size}x{self.size}-v0"

    def logs(self, options: argparse.Namespace) -> Path:
        """:return: the log folder of this training alone"""
        return options.runs / f"{self.agent}_{self.size}_{self.seed}"

    def run(self, options: argparse.Namespace) -> Path:
        """:return: the folder of its run"""
        return self.logs(options) / "lwm_dqn" / f"{self.env_id}_1"

    def checkpoints(self, options: argparse.Namespace) -> dict[int, Path]:
        """:return: the models on the way, by their steps"""
        paths = self.run(options).glob("rl_model_*_steps.zip")
        return dict(sorted((int(path.name.split("_")[2]), path) for path in paths))

    def is_finished(self, options: argparse.Namespace) -> bool:
        """:return: whether the last of its models is there"""
        return options.steps in self.checkpoints(options)


def command(cell: Cell, options: argparse.Namespace) -> list[str]:
    """
    :param cell: that is not finished
    :param options: of the command line
    :return: what trains it, from where it stopped
    """
    zoo = [sys.executable, "-m", "sb3_lwm.zoo"]
    if find_states(cell.run(options) / "states"):
        return [*zoo, "resume", str(cell.run(options))]
    # stopped before its first state: a second run would get another number
    shutil.rmtree(cell.logs(options), ignore_errors=True)
    what = ["--algo", "lwm_dqn", "--env", cell.env_id, "--seed", str(cell.seed), "-n", str(options.steps)]
    how = ["--num-threads", "1", "--eval-freq", "-1", "--save-freq", str(options.interval), "-f", str(cell.logs(options))]
    conf = ["--conf-file", options.conf_file] if options.conf_file else []
    changes = [*TRAINED[cell.agent], *options.params]
    return [*zoo, "train", *what, *how, *conf, *(["-params", *changes] if changes else [])]


def train(cell: Cell, options: argparse.Namespace) -> None:
    """
    :param cell: that is not finished
    :param options: of the command line
    :raises RuntimeError: if the training fails; says where its output is
    """
    options.runs.mkdir(parents=True, exist_ok=True)
    output = options.runs / f"{cell.agent}_{cell.size}_{cell.seed}.txt"
    arguments = command(cell, options)
    with open(output, "a", encoding="utf-8") as file:
        code = subprocess.run(arguments, stdout=file, stderr=file, env={"OMP_NUM_THREADS": "1", **os.environ}).returncode
    if code != 0 or not cell.is_finished(options):
        raise RuntimeError(f"The training of {cell} ended with exit code {code} before its last step, see {output}.")


def train_all(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Train what is not finished, and show how far it is."""
    n_models = options.steps // options.interval
    with (
        ThreadPoolExecutor(options.jobs) as pool,
        tqdm(total=len(cells) * n_models, desc="Training", unit=f"{options.interval} steps", mininterval=1.0) as bar,
    ):
        futures: list[Future[None]] = [pool.submit(train, cell, options) for cell in cells if not cell.is_finished(options)]
        while not all(future.done() for future in futures):
            bar.update(sum(len(cell.checkpoints(options)) for cell in cells) - bar.n)
            time.sleep(1.0)
        bar.update(sum(len(cell.checkpoints(options)) for cell in cells) - bar.n)
    failures = [str(error) for future in futures if (error := future.exception()) is not None]
    if failures:
        raise SystemExit("\n".join(failures))


def learning_curve(run: Path, interval: int) -> pd.DataFrame:
    """
    :param run: folder of a run
    :param interval: in steps
    :return: mean steps of the episodes that ended in each interval, and the wall time at its end
    """
    files = get_monitor_files(str(run))
    episodes = pd.concat([pd.read_csv(file, skiprows=1).assign(env=number) for number, file in enumerate(files)])
    # where no episode has ended there are no numbers to tell the type
    episodes = episodes.astype({"l": float, "t": float})
    # a step of the run is a step of one environment; all environments take theirs together
    steps = episodes.groupby("env").l.cumsum() * len(files)
    groups = episodes.groupby(((steps - 1) // interval + 1) * interval)
    columns = {"mean_steps": groups.l.mean(), "standard_deviation": groups.l.std(ddof=0), "episodes": groups.l.size()}
    curve = pd.DataFrame({**columns, "wall_seconds": groups.t.max()})
    return curve.rename_axis("steps").reset_index().assign(kind="training")


def summary(lengths: np.ndarray) -> dict[str, Any]:
    """:return: columns of the CSV"""
    return {"mean_steps": lengths.mean(), "standard_deviation": lengths.std(), "episodes": len(lengths)}


def evaluate(cell: Cell, options: argparse.Namespace) -> pd.DataFrame:
    """
    :param cell: that is finished
    :param options: of the command line
    :return: a row for each of its models; kept beside them, so that none is evaluated twice
    """
    path = cell.run(options) / "evaluations.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    for steps, checkpoint in cell.checkpoints(options).items():
        if steps in [row["steps"] for row in rows]:
            continue
        set_random_seed(EVALUATION_SEED)
        env = make_vec_env(cell.env_id, n_envs=16, seed=EVALUATION_SEED)
        games = play_games(LWMDQN.load(checkpoint, device="cpu"), env, EVALUATION_EPISODES).first_started
        rows.append({"steps": steps, **summary(np.array([game.length for game in games])), "kind": "evaluation"})
        write(pd.DataFrame(rows), path)
    return pd.DataFrame(rows)


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV, which appears when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    table.to_csv(temporary, index=False, float_format="%.6g")
    os.replace(temporary, path)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """:return: the options"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=[3, 4, 5, 6], default=[3, 4, 5], help="of the labyrinths")
    parser.add_argument("--agents", nargs="+", choices=[*BOUNDS, *TRAINED], default=[*BOUNDS, *TRAINED], help="who walks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102], help="of the trainings")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of a training")
    parser.add_argument("--interval", type=int, default=100_000, help="steps between two rows")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--conf-file", help="settings, as the Zoo's --conf-file")
    parser.add_argument("--params", nargs="+", default=[], help="changes of the settings, as the Zoo's -params")
    parser.add_argument("--runs", type=Path, default=Path("labyrinth_runs"), help="folder of the trainings")
    parser.add_argument("--output", type=Path, required=True, help="CSV to write")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.interval < 1 or options.steps % options.interval:
        parser.error(f"--jobs {options.jobs} --interval {options.interval} --steps {options.steps}: whole intervals, one job.")
    return options


def main() -> None:
    """Train, evaluate, write the CSV, print the table."""
    options = parse()
    parts = []
    for size, agent in itertools.product(options.sizes, [agent for agent in options.agents if agent in BOUNDS]):
        parts.append(pd.DataFrame([{"size": size, "agent": agent, **summary(bound(agent, size)), "kind": "bound"}]))
    trained = [agent for agent in options.agents if agent in TRAINED]
    cells = [Cell(*parts) for parts in itertools.product(options.sizes, trained, options.seeds)]
    train_all(cells, options)
    for cell in tqdm(cells, desc="Evaluating", unit="training", disable=None):
        curve = pd.concat([learning_curve(cell.run(options), options.interval), evaluate(cell, options)])
        settings = options.conf_file or "labyrinth"
        parts.append(curve.assign(**cell._asdict(), settings=" ".join([settings, *options.params])))
    results = pd.concat(parts, ignore_index=True).assign(**VERSIONS)
    write(results, options.output)
    shown = results[(results.kind == "bound") | ((results.kind == "evaluation") & (results.steps == options.steps))]
    table = shown.assign(seed=shown.get("seed", pd.Series(dtype=float)).fillna(-1).astype(int))
    print(table.pivot_table("mean_steps", ["size", "agent"], "seed", sort=False).to_string(float_format="%.2f", na_rep=""))


if __name__ == "__main__":
    main()
