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
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from trainings import HERE, KEY, SETTINGS, Agent, Training, add_options, add_to, folder_of, read_episodes, train_all

from sb3_lwm.figures import save_figure


class Task(NamedTuple):
    """The number of steps of a training, and the number of steps of a row in the CSV."""

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
    :param results: The rows of the CSV
    :param path: The picture to write: the success rate against steps, a panel for each task, a thin line for each seed
    """
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(results.task))
    size = (4.2 * len(tasks), 3.2)
    figure, axes = plt.subplots(1, len(tasks), figsize=size, squeeze=False, sharey=True, layout="constrained")
    colours = {agent: f"C{number}" for number, agent in enumerate(sorted(set(results.agent), reverse=True))}
    for axis, task in zip(axes[0], tasks, strict=True):
        unit, name = (1e6, "million steps") if TASKS[task].steps >= 1e6 else (1e3, "thousand steps")
        for (agent, _), rows in results[results.task == task].groupby(["agent", "seed"]):
            axis.plot(rows.steps / unit, rows.success, color=colours[agent], linewidth=1.0, alpha=0.8)
        axis.set_title(task.removeprefix("MiniGrid-").removesuffix("-v0"), fontsize=10)
        axis.set_xlabel(name)
        axis.set_ylim(-0.03, 1.03)
    axes[0, 0].set_ylabel("success rate of training episodes")
    handles = [plt.Line2D([], [], color=colour, label=agent) for agent, colour in colours.items()]
    axes[0, 0].legend(handles=handles, loc="center right", frameon=False)
    save_figure(figure, path)


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
