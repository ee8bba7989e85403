"""
Compare the speed of two checkouts of this repository: the same training in two processes, one after the other in turns::

    git worktree add --detach ../before 66c757d
    OMP_NUM_THREADS=1 python benchmarks/compare_checkouts.py ../before . --rounds 9

Prints the median CPU milliseconds of 50 updates with their environment steps, and the median of the ratios of neighbouring
turns, with the smallest and the largest.
"""

import argparse
import inspect
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

# The file and the block of the settings, and whether there is a world model
CASES: dict[str, tuple[str, str, bool]] = {
    "labyrinth-paper": ("labyrinth-paper.yml", "POL-3x3-v0", True),
    "labyrinth-paper-plain": ("labyrinth-paper.yml", "POL-3x3-v0", False),
    "labyrinth": ("labyrinth.yml", "POL-3x3-v0", True),
    "labyrinth-5x5": ("labyrinth.yml", "POL-5x5-v0", True),
    "minigrid": ("minigrid.yml", "MiniGrid-DoorKey-5x5-v0", True),
}
UPDATES = 50


def prepare(case: str) -> Callable[[], object]:
    """Return a function that continues a training after its warm-up, with the package of the working directory."""
    import torch as th
    from rl_zoo3.utils import get_wrapper_class
    from stable_baselines3.common.env_util import make_vec_env

    from sb3_lwm import LWMDQN

    th.set_num_threads(1)
    file, env_id, use_world_model = CASES[case]
    block = yaml.safe_load(Path("hyperparams", file).read_text(encoding="utf-8"))[env_id]
    names = inspect.signature(LWMDQN).parameters
    settings: dict[str, Any] = {key: value for key, value in block.items() if key in names and key != "policy"}
    # a short warm-up and no schedule, since they are not measured
    settings.update(learning_rate=5e-4, learning_starts=2000, pretraining_updates=5, use_world_model=use_world_model)
    env = make_vec_env(
        env_id, block["n_envs"], seed=0, env_kwargs=block.get("env_kwargs"), wrapper_class=get_wrapper_class(block)
    )
    rollout = block["n_envs"] * settings["train_freq"]
    agent = LWMDQN("MlpPolicy", env, seed=0, device="cpu", **settings).learn(2000 + 10 * rollout)
    return lambda: agent.learn(UPDATES * rollout, reset_num_timesteps=False, log_interval=10**9)


def work(case: str) -> None:
    """Run a turn for each line of the standard input, and print its CPU seconds."""
    task = prepare(case)
    answer, sys.stdout = sys.stdout, sys.stderr
    for _ in sys.stdin:
        start = time.process_time()
        task()
        print(time.process_time() - start, file=answer, flush=True)


def start_worker(checkout: Path, case: str) -> "subprocess.Popen[str]":
    """Start a process that runs turns with the package of a checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--work", case]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    return subprocess.Popen(command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def take_turn(worker: "subprocess.Popen[str]") -> float:
    """Make a worker run a turn, and return its CPU seconds."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        sys.exit("A worker has ended; its error is above.")
    return float(line)


def compare(checkouts: list[Path], case: str, rounds: int) -> None:
    """Compare the checkouts in one case, and print a line of the table."""
    workers = [start_worker(checkout, case) for checkout in checkouts]
    turns: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        # the order changes from round to round, and the first round only warms up
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            seconds = take_turn(workers[index])
            if number > 0:
                turns[index].append(seconds)
    for worker in workers:
        worker.communicate()
    ratios = sorted(before / after for before, after in zip(*turns, strict=True))
    medians = "".join(f"{1e3 * statistics.median(times):>12.0f}" for times in turns)
    print(f"{case:<26}{medians}{statistics.median(ratios):>10.2f}    [{ratios[0]:.2f}, {ratios[-1]:.2f}]", flush=True)


def main() -> None:
    """Compare the cases one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, help="The two checkouts, the earlier one first")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="The cases to measure")
    parser.add_argument("--rounds", type=int, default=9, help="The number of turns of each process")
    parser.add_argument("--work", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return
    if len(arguments.checkouts) != 2:
        parser.error("give two checkouts, the earlier one first")
    checkouts = [checkout.resolve() for checkout in arguments.checkouts]
    print(f"{'CPU ms of 50 updates':<26}{'before':>12}{'after':>12}{'ratio':>10}")
    for case in arguments.cases:
        compare(checkouts, case, arguments.rounds)


if __name__ == "__main__":
    main()
