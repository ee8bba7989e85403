"""
Tasks whose reward is rare, with the intrinsic reward of the latent world model and without it::

    OMP_NUM_THREADS=1 python benchmarks/sparse_tasks.py --jobs 2 --output benchmarks/results/minigrid.csv
    OMP_NUM_THREADS=1 python benchmarks/sparse_tasks.py --jobs 2 --output benchmarks/results/mountain_car.csv \
        --tasks MountainCarContinuous-v0 --agents "sac + bonus" sac

Each training is one command of the RL Zoo with settings of the package (such as ``hyperparams/minigrid-ppo.yml``), in a
separate folder in ``--runs``. A finished training is not repeated; an interrupted one of LWMDQN is resumed, others start
again. The CSV has a row for each 50 000 steps of a training (5 000 on MountainCarContinuous): the mean return and the success
rate of the episodes that ended in them. Rows of other trainings in the CSV are kept, so that ``--tasks``, ``--agents`` and
``--seeds`` can make the table in parts. ``--figure`` draws the curves of all seeds in the CSV. RND, ICM, E3B and RE3 are from
RLeXplore, which needs a Python environment of its own: see ``rlexplore_ppo.py``, and name its interpreter with
``--rlexplore-python``.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from curves import draw_interquartile, draw_seeds
from trainings import HERE, KEY, SETTINGS, Agent, Training, add_options, add_to, folder_of, read_episodes, train_all

from sb3_lwm.figures import save_figure


class Task(NamedTuple):
    """The number of steps of a training, and the number of steps of a row in the CSV."""

    steps: int
    interval: int = 50_000


TASKS = {
    "MiniGrid-MultiRoom-N4-S5-v0": Task(800_000),
    "MiniGrid-MultiRoom-N7-S4-v0": Task(800_000),
    "MiniGrid-MultiRoom-N7-S8-v0": Task(2_000_000),
    "MiniGrid-KeyCorridorS3R2-v0": Task(800_000),
    "MiniGrid-KeyCorridorS3R3-v0": Task(1_500_000),
    "MiniGrid-KeyCorridorS4R3-v0": Task(10_000_000),
    "MiniGrid-ObstructedMaze-1Dlh-v0": Task(2_000_000),
    "MiniGrid-DoorKey-8x8-v0": Task(400_000),
    "MiniGrid-MemoryS7-v0": Task(500_000),
    "MiniGrid-LavaCrossingS9N1-v0": Task(400_000),
    "MiniGrid-SimpleCrossingS11N5-v0": Task(400_000),
    "MiniGrid-UnlockPickup-v0": Task(800_000),
    "MiniGrid-BlockedUnlockPickup-v0": Task(1_500_000),
    "MountainCarContinuous-v0": Task(30_000, interval=5_000),
}
# The parts of a training at which tasks of different lengths are averaged
PROGRESS = np.linspace(0.05, 1.0, 20)
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
}
# The intrinsic rewards of RLeXplore, which another script adds to PPO in another Python environment
RIVALS = {f"ppo + {name}": name for name in ("RND", "ICM", "E3B", "RE3")}


def find_agent(name: str, rlexplore_python: str | None = None) -> Agent:
    """
    :param name: The name of an agent
    :param rlexplore_python: The Python interpreter that can import ``rllte``
    :return: The agent
    """
    if name not in RIVALS:
        return AGENTS[name]
    return Agent("ppo", PPO, script=(str(rlexplore_python), str(HERE / "rlexplore_ppo.py"), "--reward", RIVALS[name]))


def curve(training: Training) -> pd.DataFrame:
    """
    :param training: A finished training
    :return: The mean return and the success rate of the episodes that ended in each interval
    """
    episodes, interval = read_episodes(training), TASKS[training.task].interval
    episodes = episodes.assign(steps=np.ceil(episodes.steps / interval) * interval, success=episodes.r > 0)
    groups = episodes.groupby("steps")
    table = pd.DataFrame({"mean_return": groups.r.mean(), "success": groups.success.mean(), "episodes": groups.size()})
    return table.reset_index().assign(**training.columns())


def draw(results: pd.DataFrame, path: Path) -> None:
    """
    Draw the success rate against steps: a panel for each task, with a thin line for each seed, and of two tasks or more a last
    panel with the interquartile mean over all tasks and seeds, of the agents that were trained on all of them.

    :param results: The rows of the CSV
    :param path: The picture to write
    """
    import matplotlib.pyplot as plt

    tasks, agents = list(dict.fromkeys(results.task)), list(dict.fromkeys(results.agent))
    n_panels = len(tasks) + (len(tasks) > 1)
    columns = min(n_panels, 3)
    lines = -(-n_panels // columns)
    size = (4.2 * columns, 3.2 * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
    colours = {agent: f"C{number}" for number, agent in enumerate(sorted(agents, reverse=True))}
    for axis, task in zip(axes.flat, tasks, strict=False):
        unit, name = (1e6, "million steps") if TASKS[task].steps >= 1e6 else (1e3, "thousand steps")
        for agent, rows in results[results.task == task].groupby("agent"):
            seeds = rows.pivot_table("success", "seed", "steps")
            draw_seeds(axis, seeds.rename(columns=lambda steps, unit=unit: steps / unit), colours[agent], agent)
        axis.set_title(task.removeprefix("MiniGrid-").removesuffix("-v0"), fontsize=10)
        axis.set_xlabel(name)
        axis.set_ylim(-0.03, 1.03)
    if len(tasks) > 1:
        axis = axes.flat[len(tasks)]
        for agent in agents:
            if (scores := scores_of_all_tasks(results[results.agent == agent], tasks)) is not None:
                draw_interquartile(axis, PROGRESS, scores, colours[agent], agent)
        axis.set_title("interquartile mean over the tasks", fontsize=10)
        axis.set_xlabel("part of the training")
    for axis in axes.flat[n_panels:]:
        axis.set_axis_off()
    for row in axes:
        row[0].set_ylabel("success rate of episodes")
    handles = [plt.Line2D([], [], color=colour, label=agent) for agent, colour in colours.items()]
    axes[0, 0].legend(handles=handles, loc="best", frameon=False, fontsize=8)
    save_figure(figure, path)


def scores_of_all_tasks(results: pd.DataFrame, tasks: Sequence[str]) -> np.ndarray | None:
    """
    :param results: The rows of one agent
    :param tasks: The tasks
    :return: (seeds, tasks, points) float, the success rates after the parts of the training in ``PROGRESS``, between two
        intervals by linear interpolation; None if a seed or a task is missing
    """
    groups = {key: rows.sort_values("steps") for key, rows in results.groupby(["seed", "task"])}
    seeds = sorted(set(results.seed))
    if len(groups) < len(seeds) * len(tasks):
        return None

    def at_parts(rows: pd.DataFrame) -> np.ndarray:
        return np.interp(PROGRESS, rows.steps / rows.total_steps.iloc[0], rows.success)

    return np.array([[at_parts(groups[seed, task]) for task in tasks] for seed in seeds])


def parse() -> argparse.Namespace:
    """:return: The options of the command line"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    agents = [*AGENTS, *RIVALS]
    parser.add_argument("--tasks", nargs="+", default=["MiniGrid-MultiRoom-N4-S5-v0"], choices=list(TASKS))
    parser.add_argument("--agents", nargs="+", default=["ppo + bonus", "ppo"], choices=agents)
    parser.add_argument("--rlexplore-python", help="The Python interpreter of an environment with rllte-core")
    add_options(parser, runs="sparse_runs")
    options = parser.parse_args()
    rivals = [agent for agent in options.agents if agent in RIVALS]
    if rivals and options.rlexplore_python is None:
        parser.error(f"--agents {' '.join(rivals)}: name the interpreter that has rllte-core with --rlexplore-python.")
    return options


def main() -> None:
    """Train, write the CSV, print a table, draw the picture."""
    options = parse()
    trainings = []
    for seed, task, name in itertools.product(options.seeds, options.tasks, options.agents):
        steps = options.steps or TASKS[task].steps
        folder = folder_of(options.runs, task, name, seed, steps)
        trainings.append(Training(task, name, find_agent(name, options.rlexplore_python), seed, steps, folder))
    train_all(trainings, options.jobs)
    results = add_to(options.output, pd.concat([curve(training) for training in trainings], ignore_index=True))
    last = results[results.steps > 0.9 * results.total_steps].groupby(KEY)
    print(last[["mean_return", "success", "cpu_seconds"]].mean().round(3).to_string())
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
