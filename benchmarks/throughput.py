"""
Speed on the labyrinth, as ratios against peers measured in the same run, interleaved, medians::

    OMP_NUM_THREADS=1 python benchmarks/throughput.py

Prints the milliseconds of one agent and predictor update against the same update with a plain loop over
``torch.nn.GRUCell``, and the environment steps per second of the whole run after the warm-up against SB3's DQN.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from tqdm import tqdm

from sb3_lwm import LWMDQN
from sb3_lwm.torch_layers import ResettableGRU

ENVIRONMENT, N_ENVS, TRAIN_FREQ, WARM_UP = "POL-3x3-v0", 8, 4, 10_000
TOTAL_STEPS = 1_000_000


def gru_cell_loop(self: ResettableGRU, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
    """The same memory as anybody would write it first: one call of the cell for each step."""
    memories = []
    for step_inputs, step_resets in zip(inputs, resets, strict=True):
        hidden = self.cell(step_inputs, hidden * ~step_resets.unsqueeze(-1))
        memories.append(hidden)
    return th.stack(memories)


@contextmanager
def straightforward() -> Iterator[None]:
    """Replace the unroll by the loop."""
    with mock.patch.object(ResettableGRU, "forward", gru_cell_loop):
        yield


def make_agents() -> dict[str, BaseAlgorithm]:
    """:return: the agents, warmed up and past the pretraining, with the labyrinth's settings"""

    def make(agent: type[BaseAlgorithm], **kwargs: object) -> BaseAlgorithm:
        env = make_vec_env(ENVIRONMENT, N_ENVS, seed=0)
        settings = {"train_freq": TRAIN_FREQ, "learning_starts": WARM_UP, "buffer_size": 100_000, "seed": 0, "device": "cpu"}
        return agent("MlpPolicy", env, **settings, **kwargs).learn(WARM_UP + N_ENVS * TRAIN_FREQ * 10)

    # the pretraining is no part of what is measured; a short one sets the normaliser
    return {
        "SB3 DQN": make(DQN),
        "LWMDQN": make(LWMDQN, pretraining_updates=10),
        "LWMDQN, no world model": make(LWMDQN, use_world_model=False),
    }


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """:return: wall and CPU seconds of one call"""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(tasks: dict[str, Callable[[], object]], rounds: int, description: str) -> dict[str, tuple[float, float]]:
    """
    :param tasks: what to measure
    :param rounds: each does every task once, so that a busy moment of the machine hits all alike
    :param description: of the progress bar
    :return: median wall and CPU seconds of each task
    """
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in tqdm(range(rounds), desc=description):
        for name, task in tasks.items():
            samples[name].append(seconds(task))
    return {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in samples.items()}  # type: ignore[misc]


def measure_updates(agents: dict[str, BaseAlgorithm], rounds: int) -> None:
    """Print milliseconds of one update."""

    def update(name: str) -> Callable[[], object]:
        return lambda: agents[name].train(gradient_steps=1, batch_size=32)  # type: ignore[attr-defined]

    def plain(name: str) -> Callable[[], object]:
        def run() -> None:
            with straightforward():
                update(name)()

        return run

    names = [name for name in agents if name.startswith("LWMDQN")]
    tasks = {name: update(name) for name in names} | {f"{name}, GRUCell loop": plain(name) for name in names}
    medians = measure(tasks, rounds, "Updates")
    print(f"\n{'one update (32 sequences of 49 rows)':<40}{'wall ms':>10}{'CPU ms':>10}{'loop / ours (CPU)':>20}")
    for name in names:
        for label in (name, f"{name}, GRUCell loop"):
            wall, cpu = medians[label]
            ratio = f"{medians[f'{name}, GRUCell loop'][1] / cpu:.2f}" if label == name else ""
            print(f"{label:<40}{1e3 * wall:>10.1f}{1e3 * cpu:>10.1f}{ratio:>20}")


def measure_runs(agents: dict[str, BaseAlgorithm], rounds: int, steps: int) -> None:
    """Print environment steps per second of ``learn`` after the warm-up."""

    def go_on(agent: BaseAlgorithm) -> Callable[[], object]:
        return lambda: agent.learn(steps, reset_num_timesteps=False, log_interval=1000)

    medians = measure({name: go_on(agent) for name, agent in agents.items()}, rounds, "Runs")
    reference = medians["SB3 DQN"][1]
    print(
        f"\n{'whole run after the warm-up':<40}{'steps/wall s':>14}{'steps/CPU s':>14}{'SB3 DQN = 1':>14}{'CPU min / 1e6':>15}"
    )
    for name, (wall, cpu) in medians.items():
        minutes = cpu / steps * TOTAL_STEPS / 60
        print(f"{name:<40}{steps / wall:>14.0f}{steps / cpu:>14.0f}{reference / cpu:>14.3f}{minutes:>13.1f}")


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="repetitions of each measurement")
    parser.add_argument("--steps", type=int, default=1600, help="environment steps of a repetition of the whole run")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    agents = make_agents()
    measure_updates(agents, arguments.rounds)
    measure_runs(agents, arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
