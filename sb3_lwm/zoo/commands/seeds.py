"""
``python -m sb3_lwm.zoo seeds``: the same training with several seeds in parallel, for any algorithm of the Zoo.

Each seed is a separate process of ``train``, whose output is written to a file. All options except for ``--seeds`` and
``--jobs`` are those of ``train``.
"""

import argparse
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sb3_lwm.zoo.commands.option_types import integer_from
from sb3_lwm.zoo.processes import handle_interruptions, stop

INTERRUPTED = 130
TRAIN = ["-m", "sb3_lwm.zoo", "train"]


class Run:
    """
    The training with one seed.

    :param seed: The seed
    :param options: The options of ``train``
    :param log: The file of its output
    """

    def __init__(self, seed: int, options: Sequence[str], log: Path) -> None:
        self.seed = seed
        self.log = log
        command = [sys.executable, "-u", *TRAIN, *options, "--seed", str(seed)]
        # one core for each of the parallel seeds; by default PyTorch would use all cores for each
        variables = {"OMP_NUM_THREADS": "1", **os.environ}
        with open(log, "x") as output:
            # in its own session, so that Ctrl-C reaches the training once, by this process, and not also by the terminal
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
            )

    def steps(self) -> str:
        """:return: The last reported number of steps in words; empty before the first report"""
        reported = re.findall(r"total_timesteps *\| *(\d+)", _tail(self.log, 20_000))
        return f"{int(reported[-1]):,} steps" if reported else ""

    def report(self) -> str:
        """:return: The end of the output of a run that has failed"""
        return f"Seed {self.seed} failed with exit code {self.process.returncode}, {self.log} ends:\n{_tail(self.log, 2000)}"


def _tail(path: Path, n_bytes: int) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - n_bytes))
        return file.read().decode(errors="replace")


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """
    :param arguments: The arguments of the command line, by default ``sys.argv``
    :return: The options of this command, and those of ``train``
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_lwm.zoo seeds",
        usage="%(prog)s --seeds SEED [SEED ...] [--jobs N] [options of train]",
        description="Run the same training with several seeds, each in a separate process.",
        epilog="All other options are those of train: python -m sb3_lwm.zoo train --help.",
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=integer_from(0), nargs="+", required=True, help="The seeds, with one training each")
    parser.add_argument("--jobs", type=integer_from(1), help="The number of parallel trainings, by default that of the cores")
    parser.add_argument("--algo", default="ppo", help="The algorithm, see train")
    parser.add_argument("--env", default="CartPole-v1", help="The id of the environment, see train")
    parser.add_argument("-f", "--log-folder", default="logs", help="The log folder, see train; output/ in it has the output")
    options, others = parser.parse_known_args(arguments)
    if len(set(options.seeds)) < len(options.seeds):
        parser.error(f"--seeds {' '.join(map(str, options.seeds))}: they must be different.")
    if any(option == "--seed" or option.startswith("--seed=") for option in others):
        parser.error("--seed is an option of a single training: name all seeds with --seeds.")
    return options, ["--algo", options.algo, "--env", options.env, "--log-folder", options.log_folder, *others]


def run_all(options: argparse.Namespace, of_train: Sequence[str], interruptions: Sequence[int], console: Console) -> int:
    """
    Train with all seeds, ``options.jobs`` in parallel, and print the end of the output of failed ones.

    :param options: The options of this command
    :param of_train: The options of ``train``
    :param interruptions: The received signals; the first one stops all trainings
    :param console: The console for the progress bar and the reports
    :return: The number of seeds that failed
    """
    folder = Path(options.log_folder, "output")
    folder.mkdir(parents=True, exist_ok=True)
    # unique, even if the same command is started twice in a second, on one machine or on two
    name = f"{options.algo}-{options.env}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    name = name.replace("/", "-").replace(":", "-")
    waiting = list(options.seeds)
    jobs = options.jobs or os.cpu_count() or 1
    running: dict[TaskID, Run] = {}
    n_failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[steps]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        seeds = progress.add_task("seeds", total=len(waiting), steps="")
        try:
            while (waiting or running) and not interruptions:
                while waiting and len(running) < jobs:
                    seed = waiting.pop(0)
                    task = progress.add_task(f"seed {seed}", total=1, steps="")
                    running[task] = Run(seed, of_train, folder / f"{name}-seed-{seed}.txt")
                time.sleep(0.5)
                n_failed += sum(_look_after(running, task, progress, seeds) for task in list(running))
        finally:
            # each training then saves its model
            stop({f"seed {run.seed}": run.process for run in running.values()}, interruptions, console.print)
    return n_failed


def _look_after(running: dict[TaskID, Run], task: TaskID, progress: Progress, seeds: TaskID) -> int:
    """Show the state of a run, remove it from ``running`` if it has ended, and return 1 if it has failed, else 0."""
    run = running[task]
    code = run.process.poll()
    if code is None:
        progress.update(task, steps=run.steps())
        return 0
    del running[task]
    progress.update(task, completed=1, steps="failed" if code else run.steps())
    progress.advance(seeds)
    if code:
        progress.console.print(run.report(), markup=False, highlight=False, soft_wrap=True)
    return int(code != 0)


def main() -> None:
    """Train the seeds; the exit code is 1 if one has failed, 130 after an interruption."""
    options, of_train = parse()
    interruptions: list[int] = []
    # The handler only appends the signal, since an exception during the start of a training would lose its process. Without
    # a handler, the trainings would continue after the end of this process.
    handle_interruptions(lambda number, _: interruptions.append(number))
    console = Console()
    n_failed = run_all(options, of_train, interruptions, console)
    if interruptions:
        console.print("Interrupted.")
        sys.exit(INTERRUPTED)
    if n_failed:
        console.print(f"{n_failed} of {len(options.seeds)} seeds failed.")
        sys.exit(1)


if __name__ == "__main__":
    main()
