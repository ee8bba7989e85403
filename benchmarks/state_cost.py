"""
The costs of a training state of an Atari run: time and bytes of a save, time and memory of a load::

    OMP_NUM_THREADS=1 python benchmarks/state_cost.py --output benchmarks/results/state_cost.csv

A replay of 100 000 steps with the paper's sequence lengths is filled with random play of Montezuma's Revenge. It is saved for
the first time, after 3000 more steps, and after all of its rows have been replaced. The load runs in a separate process; its
memory is the increase at the peak and afterwards. The share is that of saves every ten minutes, as in the Zoo's settings.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
from versions import VERSIONS

from sb3_lwm import LWMDQN, AtariVecEnv
from sb3_lwm.training_state.files import find_states

GAME, N_ENVS = "montezuma_revenge", 8
PERIOD = 600.0  # seconds


def make_env() -> AtariVecEnv:
    """Make the games, which are the same in every process."""
    return AtariVecEnv(GAME, N_ENVS, seed=0, num_threads=1)


def save(model: LWMDQN, folder: Path, what: str) -> dict[str, object]:
    """Save the state, and return a row of the CSV."""
    before = {path.stat().st_ino for path in folder.rglob("*.npy")}
    start = time.perf_counter()
    model.save_training_state(folder)
    seconds = time.perf_counter() - start
    new = [path.stat() for path in find_states(folder)[0].iterdir()]
    written = sum(stat.st_size for stat in new if stat.st_ino not in before)
    return {"what": what, "seconds": seconds, "megabytes": written / 1e6, "share_of_ten_minutes": seconds / PERIOD}


def load(folder: Path) -> None:
    """Load the state, and print the seconds, and the increase of memory at the peak and afterwards in megabytes."""
    env = make_env()
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    LWMDQN.load_training_state(folder, env, device="cpu")
    seconds = time.perf_counter() - start
    # ru_maxrss is in kilobytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(seconds, (peak - before) / 1e6, (psutil.Process().memory_info().rss - before) / 1e6)


def main() -> None:
    """Save and load, write the CSV, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="The size of the replay in steps")
    parser.add_argument("--output", type=Path, help="The CSV to write")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(options.load)
        return
    # without learning: all steps belong to the warm-up
    settings = {"buffer_size": options.steps, "learning_starts": 10 * options.steps, "prioritized_replay": True}
    model = LWMDQN("CnnPolicy", make_env(), n_steps=5, burn_in=40, unroll=80, seed=0, device="cpu", **settings)
    with tempfile.TemporaryDirectory() as name:
        rows = []
        for steps, what in ((options.steps, "first"), (3000, "after 3000 more steps"), (options.steps, "all of it new")):
            model.learn(steps, reset_num_timesteps=False, progress_bar=sys.stderr.isatty())
            rows.append(save(model, Path(name), what))
        command = [sys.executable, __file__, "--load", name]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds, peak, after = map(float, output.split()[-3:])
        rows.append({"what": "load", "seconds": seconds, "megabytes": after, "peak_megabytes": peak})
    table = pd.DataFrame(rows).assign(steps=options.steps, **VERSIONS)
    if options.output:
        table.to_csv(options.output, index=False, float_format="%.4g")
    print(table.drop(columns=[*VERSIONS, "steps"]).to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
