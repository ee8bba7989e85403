"""
The number of steps to visit every cell of a labyrinth, of trained agents and of bounds for them::

    OMP_NUM_THREADS=1 python benchmarks/labyrinth.py --jobs 2 --runs labyrinth_runs --output benchmarks/results/labyrinth.csv

The agent is trained with its world model and without it, on labyrinths of sizes 3, 4 and 5, with the seeds 100, 101 and 102,
by the RL Zoo and the settings of the package; ``--conf-file labyrinth-paper`` uses those of the paper. Interrupted trainings
are continued. Finished ones are not repeated, even if a settings file has changed: use another folder then. The CSV has a row
for each 100 000 steps of a training (the mean of the episodes that ended in them), one for each evaluation after these steps
(1024 episodes, 1 % random actions), and one for each bound (a random walk, depth-first search with a perfect memory, the
shortest walk with a known map). Other rows of the CSV are kept, so that ``--sizes``, ``--agents`` and ``--seeds`` can make the
table in parts.
"""

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from labyrinth_bounds import BOUNDS, TIME_LIMIT, bound
from labyrinth_trainings import Agent, Cell, make_cells, train_all, write
from results_tables import final_table, to_markdown
from stable_baselines3.common.monitor import get_monitor_files
from tqdm import tqdm
from versions import VERSIONS
from zoo_scores import score

from sb3_lwm.zoo import register
from sb3_lwm.zoo.processes import handle_interruptions

EVALUATION_EPISODES = 1024
EVALUATION_EPS = 0.01
AGENTS = {"no-world-model": Agent(params=("use_world_model:False",)), "lwm_dqn": Agent()}


def learning_curve(run: Path, interval: int, last: int) -> pd.DataFrame:
    """
    :param run: The folder of a run
    :param interval: The number of steps of an interval
    :param last: The last step of the last interval; the run may be longer, since it ends with a whole rollout
    :return: The mean steps of the episodes that ended in each interval, and the wall time at its end
    """
    files = get_monitor_files(str(run))
    # a file without episodes has no numbers from which pandas could infer the dtype
    tables = [pd.read_csv(file, skiprows=1, dtype=float).assign(env=number) for number, file in enumerate(files)]
    episodes = pd.concat(tables, ignore_index=True)
    # the seconds of a resumed training start at 0 again
    before = episodes.groupby("env").t.shift()
    episodes["t"] += before.where(before > episodes.t, 0.0).groupby(episodes.env).cumsum()
    # the steps of a run are those of all environments, which take them together
    steps = episodes.groupby("env").l.cumsum() * len(files)
    episodes, steps = episodes[steps <= last], steps[steps <= last]
    groups = episodes.groupby(((steps - 1) // interval + 1) * interval)
    columns = {"mean_steps": groups.l.mean(), "standard_deviation": groups.l.std(ddof=0), "episodes": groups.l.size()}
    curve = pd.DataFrame({**columns, "wall_seconds": groups.t.max()})
    return curve.rename_axis("steps").reset_index().assign(kind="training")


def evaluate(cell: Cell, every: int) -> pd.DataFrame:
    """
    :param cell: A finished training
    :param every: The number of steps between two models that are evaluated
    :return: A row for each of these models; the rows are saved beside the models, so that none is evaluated twice
    """
    path = cell.run / "evaluations.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    for steps in cell.checkpoints():
        if steps % every or steps in [row["steps"] for row in rows]:
            continue
        begin = time.monotonic()
        # with the time limit of the evaluation, since that of the training may be shorter
        found = score(cell.run, EVALUATION_EPISODES, steps, [f"max_episode_steps:{TIME_LIMIT}"], EVALUATION_EPS)
        # the reward of a step is -1
        columns = {"mean_steps": -found["mean_score"], **{name: found[name] for name in ("standard_deviation", "episodes")}}
        rows.append({"steps": steps, **columns, "wall_seconds": time.monotonic() - begin, "kind": "evaluation", **VERSIONS})
        write(pd.DataFrame(rows), path)
    return pd.DataFrame(rows)


def add_to(path: Path, results: pd.DataFrame, agents: Sequence[str]) -> pd.DataFrame:
    """
    :param path: The path of a CSV, which need not exist
    :param results: The new rows
    :param agents: The names of the agents, in their order
    :return: The new rows and those of the CSV with other sizes, agents, seeds, settings or lengths, sorted by size and agent
    """
    together = results
    if path.exists():
        earlier = pd.read_csv(path)
        together = pd.concat([earlier[~_trainings(earlier).isin(_trainings(results))], results], ignore_index=True)
    places = {name: place for place, name in enumerate(dict.fromkeys([*agents, *together.agent]))}
    # results without trainings have no column of seeds
    ranks = together.reindex(columns=["size", "seed"]).assign(place=together.agent.map(places))
    order = ranks.sort_values(["size", "place", "seed"], kind="stable").index
    return together.loc[order].reset_index(drop=True)


def _trainings(results: pd.DataFrame) -> pd.MultiIndex:
    """Return the key of each row's training: size, agent, seed, settings and length, of which bounds have the first two."""
    columns = {"size": int, "agent": str, "seed": float, "settings": str}
    keys = results.reindex(columns=[*columns, "steps"]).fillna({"seed": -1, "settings": "", "steps": -1}).astype(columns)
    return pd.MultiIndex.from_frame(keys.assign(steps=keys.groupby(list(columns)).steps.transform("max")))


def parse(
    agents: Mapping[str, Agent], doc: str | None, defaults: Mapping[str, Any], arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", choices=[3, 4, 5, 6], default=[3, 4, 5], help="The sizes")
    parser.add_argument("--agents", nargs="+", choices=[*BOUNDS, *agents], default=[*BOUNDS, *agents], help="The agents")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102], help="The seeds of the trainings")
    parser.add_argument("--steps", type=int, default=1_000_000, help="The number of steps of a training")
    parser.add_argument("--interval", type=int, default=100_000, help="The number of steps between two rows")
    parser.add_argument(
        "--evaluate-every", type=int, help="The number of steps between two evaluations, by default --interval"
    )
    parser.add_argument("--jobs", type=int, default=1, help="The number of parallel trainings")
    parser.add_argument("--conf-file", help="The settings, see the Zoo's --conf-file")
    parser.add_argument("--params", nargs="+", default=[], help="Changes of the settings, see the Zoo's -params")
    parser.add_argument("--runs", type=Path, default=Path("labyrinth_runs"), help="The folder of the trainings")
    parser.add_argument("--output", type=Path, required=True, help="The CSV to write")
    parser.set_defaults(**defaults)
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: it must be at least 1.")
    if options.interval < 1 or options.steps < 1 or options.steps % options.interval:
        parser.error(
            f"--steps {options.steps} --interval {options.interval}: a training must have one or more whole intervals."
        )
    options.evaluate_every = options.evaluate_every or options.interval
    if options.evaluate_every % options.interval or options.steps % options.evaluate_every:
        parser.error(
            f"--evaluate-every {options.evaluate_every}: it must be a multiple of --interval {options.interval}, and --steps "
            f"{options.steps} a multiple of it."
        )
    for name in ("sizes", "agents", "seeds"):
        if len(set(given := getattr(options, name))) < len(given):
            parser.error(f"--{name} {' '.join(map(str, given))}: name each once.")
    return options


def bound_rows(options: argparse.Namespace) -> pd.DataFrame:
    """
    :param options: The options of the command line
    :return: A row for each size and bound
    """
    rows = []
    for size, name in itertools.product(options.sizes, [name for name in options.agents if name in BOUNDS]):
        lengths = bound(name, size)
        columns = {"mean_steps": lengths.mean(), "standard_deviation": lengths.std(), "episodes": len(lengths)}
        rows.append({"size": size, "agent": name, **columns, "kind": "bound", **VERSIONS})
    return pd.DataFrame(rows)


def trained_rows(cell: Cell, every: int) -> pd.DataFrame:
    """
    :param cell: A finished training
    :param every: The number of steps between two models that are evaluated
    :return: The rows of its learning curve and of the evaluations of its models
    """
    curve = learning_curve(cell.run, cell.interval, cell.steps).assign(**cell.versions())
    columns = {"size": cell.size, "agent": cell.name, "seed": cell.seed, "settings": cell.settings}
    # in a short training no episode may have ended
    return pd.concat([part for part in (curve, evaluate(cell, every)) if len(part) > 0]).assign(**columns)


def main(
    agents: Mapping[str, Agent] = AGENTS,
    doc: str | None = __doc__,
    defaults: Mapping[str, Any] = {},
    arguments: Sequence[str] | None = None,
) -> None:
    """
    Train, evaluate, write the CSV and print the table, of all finished trainings even if others have failed.

    :param agents: The agents that can be trained, by name, in the order of the rows
    :param doc: The description in ``--help``
    :param defaults: The defaults of options that differ from those of this benchmark
    :param arguments: The arguments, by default those of the command line
    """
    options = parse(agents, doc, defaults, arguments)
    register()
    cells = make_cells(options, agents)
    interruptions: list[int] = []
    handle_interruptions(lambda number, _: interruptions.append(number))
    failures = train_all(cells, options, interruptions)
    if interruptions:
        raise SystemExit("Interrupted; the same command continues.")
    finished = [cell for cell in cells if cell.is_finished()]
    evaluated = tqdm(finished, desc="Evaluating", unit="training", disable=None)
    parts = [trained_rows(cell, options.evaluate_every) for cell in evaluated]
    if tables := [part for part in (bound_rows(options), *parts) if len(part) > 0]:
        results = pd.concat(tables, ignore_index=True)
        write(add_to(options.output, results, [*BOUNDS, *agents]), options.output)
        print(to_markdown(final_table(results)))
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
