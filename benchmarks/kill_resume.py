"""
Trainings that are killed at random moments and resumed::

    OMP_NUM_THREADS=1 python benchmarks/kill_resume.py exact --output kill_exact.csv
    OMP_NUM_THREADS=1 python benchmarks/kill_resume.py exact --task atari --steps 4000 --output kill_atari.csv
    OMP_NUM_THREADS=1 python benchmarks/kill_resume.py storm --kills 50 --output kill_storm.csv
    OMP_NUM_THREADS=1 python benchmarks/kill_resume.py soak --minutes 30 --output kill_soak.csv

``exact`` compares a training with another one that is killed several times by SIGKILL, every other time during a save:
networks, optimizers, replay, generators, environments and log must be the same to the last bit. Each resumed training must
load the newest complete state. ``storm`` kills often, without a comparison. ``soak`` measures memory and disk of a training
that saves every minute. The exit status is 1 if a requirement is not met.
"""

import argparse
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_lwm import LWMDQN, AtariVecEnv, TrainingStateCallback
from sb3_lwm.common.files import whole_file
from sb3_lwm.training_state.comparison import CLOCK, differences
from sb3_lwm.training_state.files import find_states

SMALL: dict[str, Any] = {"gru_hidden_size": 16, "world_model_kwargs": {"predictor_kwargs": {"gru_hidden_size": 16}}}
# The labyrinth has the settings of its block; the others learn little, but run all parts of the program
TASKS: dict[str, dict[str, Any]] = {
    "labyrinth": {"policy": "MlpPolicy"},
    "tiny": {
        "policy": "MlpPolicy",
        **{
            "learning_starts": 400,
            "buffer_size": 1600,
            "batch_size": 4,
            "burn_in": 2,
            "unroll": 6,
            "prioritized_replay": True,
        },
        **{"pretraining_updates": 20, "pretraining_batch_size": 4, "pretraining_sequence_length": 10, "policy_kwargs": SMALL},
    },
    "atari": {
        "policy": "CnnPolicy",
        **{
            "learning_starts": 400,
            "buffer_size": 2000,
            "batch_size": 4,
            "burn_in": 4,
            "unroll": 8,
            "prioritized_replay": True,
        },
        **{"pretraining_updates": 10, "pretraining_batch_size": 4, "pretraining_sequence_length": 16, "n_steps": 2},
        **{"encoder_pretraining_updates": 10, "intrinsic_reward_clip": 10.0, "step_ahead": True},
        "policy_kwargs": SMALL,
    },
}
FINAL, LOG = "final", "progress.csv"


def make_env(task: str) -> VecEnv:
    """Make the environments of a task, which are the same in every process."""
    if task == "atari":
        return AtariVecEnv("montezuma_revenge", 2, seed=0, num_threads=1, max_episode_steps=400)
    return make_vec_env("POL-3x3-v0", 8, seed=0)


def make_model(task: str, folder: Path) -> LWMDQN:
    """Make a new agent that writes its log into the folder."""
    model = LWMDQN(env=make_env(task), seed=0, device="cpu", **TASKS[task])
    model.set_logger(configure(str(folder), ["csv"]))
    return model


def work(options: argparse.Namespace) -> None:
    """Start or resume the training, in the process that is killed."""
    # a state that cannot be read, or environments that cannot be restored, must be an error
    warnings.simplefilter("error")
    folder = options.folder
    states = TrainingStateCallback(folder / "states", options.every_minutes, options.every_steps, keep_last=options.keep_last)
    if find_states(folder / "states"):
        model = LWMDQN.load_training_state(folder, make_env(options.task), device="cpu")
        print("resumed", model.last_training_state, flush=True)
        steps = model.remaining_timesteps
    else:
        model, steps = make_model(options.task, folder), options.steps
        print("begun", flush=True)
    model.learn(steps, states, reset_num_timesteps=False, log_interval=10)
    model.save_training_state(folder / FINAL)
    model.logger.close()


def start(options: argparse.Namespace, folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a process that trains in this folder, and return it with the line that it prints at its start."""
    command = [sys.executable, __file__, "work", "--folder", str(folder), "--task", options.task]
    for name in ("steps", "every_steps", "every_minutes", "keep_last"):
        if (value := getattr(options, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def finish(process: subprocess.Popen[str], is_killed: bool = False) -> None:
    """Wait for the end of a training, or kill it."""
    if is_killed:
        process.kill()
    if process.wait() != 0 and not is_killed:
        raise SystemExit(f"The training failed with exit code {process.returncode}.")


def is_saving(folder: Path) -> bool:
    """Return whether a save has started and not ended."""
    return any((folder / "states").glob(".saving_*"))


def kill(process: subprocess.Popen[str], folder: Path, after: int, seconds: float, in_save: bool) -> bool | None:
    """
    Kill a training some seconds after it has saved a state of at least ``after`` steps, or in the first save after that.

    :return: Whether it was killed during a save; None if the training had ended before
    """
    until = None
    while until is None or time.monotonic() < until or (in_save and not is_saving(folder)):
        if until is None and steps_saved(folder) >= after:
            until = time.monotonic() + seconds
        if process.poll() is not None:
            return None
        time.sleep(0.0005)
    process.kill()
    process.wait()
    return is_saving(folder)


def newest(folder: Path) -> str:
    """Return the newest state of a run; empty if there is none."""
    states = find_states(folder / "states")
    return str(states[0]) if states else ""


def steps_saved(folder: Path) -> int:
    """Return the number of steps of the newest state of a run; 0 if there is none."""
    return int(Path(newest(folder) or "state_0").name.split("_")[1])


def read_log(folder: Path) -> list[dict[str, str]]:
    """Return the lines of a run's log, without values that depend on the clock."""
    with open(folder / LOG, newline="", encoding="utf-8") as file:
        return [{key: value for key, value in line.items() if key not in CLOCK} for line in csv.DictReader(file)]


def killed_training(options: argparse.Namespace, folder: Path, kills: int) -> list[dict[str, Any]]:
    """
    Train with several kills. In the mode ``exact`` the training is then finished.

    :return: A row for each kill
    """
    rows: list[dict[str, Any]] = []
    generator = random.Random(options.seed)
    # the kills of a comparison are spread over the training, without its last part, in which the last kill may be delayed
    moments = sorted(generator.uniform(0.0, 0.8 * options.steps) for _ in range(kills))
    expected = ""
    with tqdm(total=kills, desc="Killed", unit="kill") as bar:
        while True:
            process, line = start(options, folder)
            resumed = line.removeprefix("resumed ") if line.startswith("resumed ") else ""
            if resumed != expected:
                raise SystemExit(f"Resumed from {resumed!r} ({line}), the newest complete state is {expected!r}.")
            if len(rows) == kills:
                finish(process, is_killed=options.mode == "storm")
                return rows
            after = int(moments[len(rows)]) if options.mode == "exact" else 0
            seconds = generator.uniform(0.0, options.longest)
            was_saving = kill(process, folder, after, seconds, in_save=len(rows) % 2 == 1)
            if was_saving is None:
                finish(process)
                raise SystemExit(f"The training ended after {len(rows)} kills: use more --steps, or a smaller --longest.")
            expected = newest(folder)
            place = Path(expected).name
            row = {"kill": len(rows) + 1, "after_steps": after, "seconds": round(seconds, 3), "in_save": was_saving}
            rows.append({**row, "next_resume_from": place})
            bar.update()


def run_exact(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Compare an uninterrupted training with one that was killed."""
    unbroken, broken = folder / "unbroken", folder / "broken"
    finish(start(options, unbroken)[0])
    last, before = (state.stat().st_mtime for state in find_states(unbroken / "states")[:2])
    options.longest = options.longest or last - before
    rows = killed_training(options, broken, options.kills)
    states = [find_states(part / FINAL)[0] for part in (unbroken, broken)]
    different = differences(*states)
    if read_log(unbroken) != read_log(broken):
        different.append("log")
    for row in rows:
        row.update(task=options.task, steps=options.steps, different=" ".join(different))
    print("The same to the last bit." if not different else f"Different: {different}")
    return rows


def run_storm(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Kill a training often."""
    options.longest = options.longest or 3.0
    rows = killed_training(options, folder, options.kills)
    print(f"{len(rows)} kills, {sum(row['in_save'] for row in rows)} of them in a save; each resume found a complete state.")
    return rows


def run_soak(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure memory and disk of a training every minute."""
    process, _ = start(options, folder)
    rows = []
    for minute in tqdm(range(options.minutes + 1), desc="Soak", unit="minute"):
        if process.poll() is not None:
            raise SystemExit(f"The training ended with exit code {process.returncode}: use more --steps.")
        files = {(stat.st_ino, stat.st_size) for path in folder.rglob("*") if path.is_file() for stat in [path.stat()]}
        rows.append(
            {
                "minute": minute,
                "resident_mb": round(psutil.Process(process.pid).memory_info().rss / 1e6, 1),
                "disk_mb": round(sum(size for _, size in files) / 1e6, 2),
                "states": len(find_states(folder / "states")),
                "newest": Path(newest(folder)).name,
            }
        )
        if minute < options.minutes:
            time.sleep(60)
    process.kill()
    process.wait()
    return rows


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["exact", "storm", "soak", "work"])
    parser.add_argument("--task", choices=TASKS, default="labyrinth", help="The task to learn")
    parser.add_argument("--steps", type=int, help="The number of steps of the training")
    parser.add_argument("--kills", type=int, default=3, help="The number of kills")
    parser.add_argument("--longest", type=float, help="The maximum number of seconds before a kill")
    parser.add_argument("--minutes", type=int, default=30, help="The length of the soak")
    parser.add_argument("--every-steps", type=int, help="The number of steps between two states")
    parser.add_argument("--every-minutes", type=float, help="The number of minutes between two states")
    parser.add_argument("--keep-last", type=int, default=2, help="The number of states to keep")
    parser.add_argument("--seed", type=int, default=0, help="The seed of the moments of the kills")
    parser.add_argument("--folder", type=Path, help="The folder for the trainings; by default a temporary one")
    parser.add_argument("--output", type=Path, help="The csv file for the rows")
    options = parser.parse_args()
    if options.every_minutes is None and options.every_steps is None:
        # a storm also needs states in the middle of the pretraining, or it would never finish it
        options.every_minutes = {"soak": 1.0, "storm": 0.02}.get(options.mode)
        options.every_steps = None if options.every_minutes else 500
    options.steps = options.steps or {"exact": 20_000, "storm": 200_000, "soak": 10_000_000, "work": 0}[options.mode]
    return options


def main() -> None:
    """Run the chosen mode, and write the rows."""
    options = parse()
    if options.mode == "work":
        work(options)
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kill_resume_"))
    rows = {"exact": run_exact, "storm": run_storm, "soak": run_soak}[options.mode](options, folder)
    if options.folder is None:
        shutil.rmtree(folder)
    if options.output is not None:
        with whole_file(options.output) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    sys.exit(int(any(row.get("different") for row in rows)))


if __name__ == "__main__":
    main()
