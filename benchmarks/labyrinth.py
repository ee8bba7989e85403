"""
Steps that it takes to visit every cell of a labyrinth: of trained agents, and of the bounds between which they lie::

    OMP_NUM_THREADS=1 python benchmarks/labyrinth.py --jobs 2 --runs labyrinth_runs --output benchmarks/results/labyrinth.csv

Sizes 3, 4 and 5, seeds 100, 101 and 102 of the agent with its world model and without it are trained with the RL Zoo and the
settings that ship; ``--conf-file labyrinth-paper`` takes those of the paper. What was interrupted goes on where it stopped,
what is finished is not trained again. The CSV gets a row for each 100 000 steps of a training (mean of the episodes that ended
in them), one for each evaluation there (128 episodes, 1 % of the actions at random), and one for each bound (a random walk,
depth-first search with a perfect memory, the shortest walk of somebody who knows the map). Rows of others that it has already
stay, so that the table can be made in parts, by ``--sizes``, ``--agents`` and ``--seeds``.
"""

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from labyrinth_bounds import BOUNDS, TIME_LIMIT, bound
from stable_baselines3.common.monitor import get_monitor_files
from tqdm import tqdm
from versions import VERSIONS
from zoo_scores import score

from sb3_lwm.files import whole_file
from sb3_lwm.training_state.files import find_states
from sb3_lwm.zoo import register

EVALUATION_EPISODES = 128
HERE = Path(__file__).parent
# module beside this one with the policies of ablations
VARIANTS = "labyrinth_variants"


class Agent(NamedTuple):
    """How an agent is trained."""

    algo: str = "lwm_dqn"
    # of the Zoo's -params
    params: tuple[str, ...] = ()
    # settings in place of those that ship
    conf_file: str | None = None


AGENTS = {"dqn": Agent(params=("use_world_model:False",)), "lwm_dqn": Agent()}


class Cell(NamedTuple):
    """A training, whose log folder has no other."""

    size: int
    name: str
    agent: Agent
    seed: int
    logs: Path

    @property
    def env_id(self) -> str:
        """:return: of the labyrinth"""
        return f"POL-{self.size}x{self.size}-v0"

    @property
    def run(self) -> Path:
        """:return: the folder of its run"""
        return self.logs / self.agent.algo / f"{self.env_id}_1"

    def checkpoints(self) -> dict[int, Path]:
        """:return: the models on the way, by their steps"""
        paths = self.run.glob("rl_model_*_steps.zip")
        return dict(sorted((int(path.name.split("_")[2]), path) for path in paths))


def make_cells(options: argparse.Namespace, agents: Mapping[str, Agent]) -> list[Cell]:
    """
    :param options: of the command line
    :param agents: that can be trained, by name
    :return: the trainings; other settings have other folders
    """
    settings = re.sub(r"[^\w.-]+", "-", settings_name(options))
    trained = [name for name in options.agents if name in agents]
    return [
        Cell(size, name, agents[name], seed, options.runs / f"{settings}_{name}_{size}_{seed}")
        for size, name, seed in itertools.product(options.sizes, trained, options.seeds)
    ]


def settings_name(options: argparse.Namespace) -> str:
    """:return: what tells these settings from others"""
    return " ".join([Path(options.conf_file or "labyrinth").stem, *options.params])


def command(cell: Cell, options: argparse.Namespace) -> list[str]:
    """
    :param cell: that is not finished
    :param options: of the command line
    :return: what trains it, from where it stopped
    """
    zoo = [sys.executable, "-m", "sb3_lwm.zoo"]
    if find_states(cell.run / "states"):
        return [*zoo, "resume", str(cell.run)]
    # stopped before its first state: a second run would get another number
    shutil.rmtree(cell.logs, ignore_errors=True)
    what = ["--algo", cell.agent.algo, "--env", cell.env_id, "--seed", str(cell.seed), "-n", str(options.steps)]
    how = ["--num-threads", "1", "--eval-freq", "-1", "--save-freq", str(options.interval), "-f", str(cell.logs)]
    conf_file = cell.agent.conf_file or options.conf_file
    conf = ["--conf-file", conf_file] if conf_file else []
    changes = [*cell.agent.params, *options.params]
    packages = ["--gym-packages", VARIANTS] if cell.agent.algo == "lwm_dqn" else []
    return [*zoo, "train", *what, *how, *conf, *packages, *(["-params", *changes] if changes else [])]


def train(cell: Cell, options: argparse.Namespace) -> None:
    """
    :param cell: that is not finished
    :param options: of the command line
    :raises RuntimeError: if the training fails; says where its output is
    """
    arguments, output = command(cell, options), cell.logs.with_name(f"{cell.logs.name}.txt")
    output.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}
    with open(output, "a", encoding="utf-8") as file:
        code = subprocess.run(arguments, stdout=file, stderr=file, env=variables).returncode
    if code != 0 or options.steps not in cell.checkpoints():
        raise RuntimeError(
            f"The training of {cell.name}, size {cell.size}, seed {cell.seed} ended with exit code {code} before its last "
            f"step, see {output}."
        )


def train_all(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Train what is not finished, and show how far it is."""
    n_models = options.steps // options.interval
    with (
        ThreadPoolExecutor(options.jobs) as pool,
        tqdm(total=len(cells) * n_models, desc="Training", unit=f"{options.interval} steps", mininterval=1.0) as bar,
    ):
        futures: list[Future[None]] = [
            pool.submit(train, cell, options) for cell in cells if options.steps not in cell.checkpoints()
        ]
        while not all(future.done() for future in futures):
            if n_new := sum(len(cell.checkpoints()) for cell in cells) - bar.n:
                bar.update(n_new)
            time.sleep(1.0)
        bar.update(sum(len(cell.checkpoints()) for cell in cells) - bar.n)
    failures = [str(error) for future in futures if (error := future.exception()) is not None]
    if failures:
        raise SystemExit("\n".join(failures))


def learning_curve(run: Path, interval: int, last: int) -> pd.DataFrame:
    """
    :param run: folder of a run
    :param interval: in steps
    :param last: step of the run, which ends with a whole rollout: what comes after belongs to no interval
    :return: mean steps of the episodes that ended in each interval, and the wall time at its end
    """
    files = get_monitor_files(str(run))
    episodes = pd.concat([pd.read_csv(file, skiprows=1).assign(env=number) for number, file in enumerate(files)])
    # where no episode has ended there are no numbers to tell the type
    episodes = episodes.astype({"l": float, "t": float})
    # a step of the run is a step of one environment; all environments take theirs together
    steps = episodes.groupby("env").l.cumsum() * len(files)
    episodes, steps = episodes[steps <= last], steps[steps <= last]
    groups = episodes.groupby(((steps - 1) // interval + 1) * interval)
    columns = {"mean_steps": groups.l.mean(), "standard_deviation": groups.l.std(ddof=0), "episodes": groups.l.size()}
    curve = pd.DataFrame({**columns, "wall_seconds": groups.t.max()})
    return curve.rename_axis("steps").reset_index().assign(kind="training")


def evaluate(cell: Cell) -> pd.DataFrame:
    """
    :param cell: that is finished
    :return: a row for each of its models; kept beside them, so that none is evaluated twice
    """
    path = cell.run / "evaluations.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    for steps in cell.checkpoints():
        if steps in [row["steps"] for row in rows]:
            continue
        # trainings may end episodes sooner
        found = score(cell.run, EVALUATION_EPISODES, steps, [f"max_episode_steps:{TIME_LIMIT}"])
        # a step costs 1
        columns = {"mean_steps": -found["mean_score"], **{name: found[name] for name in ("standard_deviation", "episodes")}}
        rows.append({"steps": steps, **columns, "kind": "evaluation"})
        write(pd.DataFrame(rows), path)
    return pd.DataFrame(rows)


def add_to(path: Path, results: pd.DataFrame) -> pd.DataFrame:
    """
    :param path: of a CSV, which need not exist
    :param results: new rows
    :return: the CSV's rows of other sizes, agents, seeds or settings, and the new ones, in the order of sizes and agents
    """
    if not path.exists():
        return results
    # bounds have neither
    columns = {"size": int, "agent": str, "seed": float, "settings": str}
    tables = [pd.read_csv(path), results]
    keys = [
        pd.MultiIndex.from_frame(table.reindex(columns=list(columns)).fillna({"seed": -1, "settings": ""}).astype(columns))
        for table in tables
    ]
    together = pd.concat([tables[0][~keys[0].isin(keys[1])], results], ignore_index=True)
    places = {name: place for place, name in enumerate(dict.fromkeys([*BOUNDS, *together.agent]))}
    order = together.assign(place=together.agent.map(places)).sort_values(["size", "place", "seed"], kind="stable").index
    return together.loc[order].reset_index(drop=True)


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV, which appears when it is whole."""
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def parse(agents: Mapping[str, Agent], doc: str | None, sizes: Sequence[int], arguments: Sequence[str] | None) -> Any:
    """:return: the options"""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=[3, 4, 5, 6], default=sizes, help="of the labyrinths")
    parser.add_argument("--agents", nargs="+", choices=[*BOUNDS, *agents], default=[*BOUNDS, *agents], help="who walks")
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


def main(
    agents: Mapping[str, Agent] = AGENTS,
    doc: str | None = __doc__,
    sizes: Sequence[int] = (3, 4, 5),
    arguments: Sequence[str] | None = None,
) -> None:
    """Train, evaluate, write the CSV, print the table."""
    options = parse(agents, doc, sizes, arguments)
    register()
    parts = []
    for size, name in itertools.product(options.sizes, [name for name in options.agents if name in BOUNDS]):
        lengths = bound(name, size)
        columns = {"mean_steps": lengths.mean(), "standard_deviation": lengths.std(), "episodes": len(lengths)}
        parts.append(pd.DataFrame([{"size": size, "agent": name, **columns, "kind": "bound"}]))
    cells = make_cells(options, agents)
    train_all(cells, options)
    for cell in tqdm(cells, desc="Evaluating", unit="training", disable=None):
        curve = pd.concat([learning_curve(cell.run, options.interval, options.steps), evaluate(cell)])
        columns = {"size": cell.size, "agent": cell.name, "seed": cell.seed, "settings": settings_name(options)}
        parts.append(curve.assign(**columns))
    results = pd.concat(parts, ignore_index=True).assign(**VERSIONS)
    write(add_to(options.output, results), options.output)
    # bounds alone have neither
    results = results.reindex(columns=results.columns.union(["steps", "seed"], sort=False))
    shown = results[(results.kind == "bound") | ((results.kind == "evaluation") & (results.steps == options.steps))]
    seeds = shown["seed"].fillna(-1).astype(int).astype(str).replace("-1", "")
    table = shown.assign(seed=seeds).pivot_table("mean_steps", ["size", "agent"], "seed", sort=False)
    print(table.to_string(float_format="%.2f", na_rep=""))


if __name__ == "__main__":
    main()
