"""
Speed of the Atari environments without an agent, as ratios against SB3's in the same run, interleaved, medians::

    OMP_NUM_THREADS=1 python benchmarks/atari_environments.py --threads 2

Prints agent steps per second of CPU time and of wall time for ``AtariVecEnv`` and for ``make_atari_env`` with
``DummyVecEnv`` and ``SubprocVecEnv``, with random actions. The CPU time includes that of SB3's processes (Linux only). On a
machine with other work only the CPU time can be compared. SB3's wrappers play up to three more steps at the start of an
episode, which have no observation and are not counted.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import ale_py
import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from tqdm import tqdm

from sb3_lwm import AtariVecEnv

OURS = "AtariVecEnv"
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(env: VecEnv) -> float:
    """
    :param env: The environments
    :return: The CPU seconds that this process, its threads, and the environments' processes have used so far
    """
    seconds = time.process_time()
    for process in getattr(env, "processes", []):
        # the fields after the name, which may contain spaces; user and system time are the 14th and 15th of the line
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / TICKS
    return seconds


def play(env: VecEnv, actions: np.ndarray) -> tuple[float, float]:
    """
    :param env: The environments
    :param actions: The actions, (steps, n_envs) int64
    :return: The wall and CPU seconds of the steps
    """
    wall, cpu = time.perf_counter(), cpu_seconds(env)
    for step in actions:
        env.step(step)
    return time.perf_counter() - wall, cpu_seconds(env) - cpu


def measure(game: str, n_envs: int, threads: int, rounds: int, steps: int) -> dict[str, tuple[float, float]]:
    """
    :param game: The id of an environment without its own frame skip
    :param n_envs: The number of parallel games
    :param threads: The number of threads of AtariVecEnv, 0 for one per core
    :param rounds: The number of rounds, in each of which every kind plays, so that other work of the machine affects all
    :param steps: The number of agent steps of one kind in one round, of all games together
    :return: The median agent steps per wall second and per CPU second of each kind
    """
    theirs = {"env_id": game, "n_envs": n_envs, "seed": 0, "wrapper_kwargs": {"clip_reward": False}}
    makers: dict[str, Callable[[], VecEnv]] = {
        # first, since forking is only safe before threads exist; other start methods would import torch in each process
        "SubprocVecEnv": lambda: make_atari_env(**theirs, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": "fork"}),
        "DummyVecEnv": lambda: make_atari_env(**theirs, vec_env_cls=DummyVecEnv),
        OURS: lambda: AtariVecEnv(game, n_envs, seed=0, num_threads=threads),
    }
    envs = {name: make() for name, make in tqdm(makers.items(), desc=f"Starting {n_envs} games", leave=False)}
    generator = np.random.default_rng(0)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in envs}
    for env in envs.values():
        env.reset()
    length = max(1, steps // n_envs)
    for _ in tqdm(range(rounds), desc=f"{n_envs} games", leave=False):
        actions = generator.integers(envs[OURS].action_space.n, size=(length, n_envs))
        for name, env in envs.items():
            samples[name].append(play(env, actions))
    for env in envs.values():
        env.close()
    played = length * n_envs
    speeds = {}
    for name, pairs in samples.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        speeds[name] = (played / wall, played / cpu)
    return speeds


def print_table(n_envs: int, speeds: dict[str, tuple[float, float]]) -> None:
    """
    :param n_envs: The number of parallel games
    :param speeds: The agent steps per wall second and per CPU second of each kind
    """
    print(f"\n{f'{n_envs} games':<20}{'steps/wall s':>14}{'steps/CPU s':>14}{'ours, wall':>14}{'ours, CPU':>14}")
    for name, (wall, cpu) in speeds.items():
        ratios = "".join(f"{ours / theirs:>12.2f} x" for ours, theirs in zip(speeds[OURS], (wall, cpu), strict=True))
        print(f"{name:<20}{wall:>14.0f}{cpu:>14.0f}{ratios if name != OURS else ''}")


def main() -> None:
    """Measure and print a table for each number of games."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="MontezumaRevengeNoFrameskip-v4", help="The id, without its own frame skip")
    parser.add_argument("--n-envs", type=int, nargs="+", default=[8, 32, 128], help="The numbers of parallel games")
    parser.add_argument("--threads", type=int, default=0, help="The threads of AtariVecEnv, 0 for one per core")
    parser.add_argument("--rounds", type=int, default=9, help="The number of repetitions of each measurement")
    parser.add_argument("--steps", type=int, default=1280, help="The agent steps of a repetition, all games together")
    arguments = parser.parse_args()
    gym.register_envs(ale_py)
    # without the monitor's thread, which would exist when SubprocVecEnv forks
    tqdm.monitor_interval = 0
    for n_envs in arguments.n_envs:
        print_table(n_envs, measure(arguments.env, n_envs, arguments.threads, arguments.rounds, arguments.steps))


if __name__ == "__main__":
    main()
