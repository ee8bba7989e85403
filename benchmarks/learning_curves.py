"""
Learning curves and final evaluations of labyrinth runs of the RL Zoo, as a CSV and a table.

Train first, once for each seed, with the world model and without::

    python -m rl_zoo3.train --algo lwm_dqn --env POL-3x3-v0 --seed 1 --eval-freq -1 -f logs/world_model
    python -m rl_zoo3.train --algo lwm_dqn --env POL-3x3-v0 --seed 1 --eval-freq -1 -f logs/dqn -params use_world_model:False

then::

    python benchmarks/learning_curves.py logs/world_model logs/dqn --output benchmarks/results/labyrinth_3x3.csv
"""

import argparse
import platform
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import stable_baselines3
import torch as th
import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import get_monitor_files
from stable_baselines3.common.utils import set_random_seed
from tqdm import tqdm

import sb3_lwm

INTERVAL = 100_000
EVALUATION_SEED = 10_000  # its environments' seeds are those of no training run
VERSIONS = {
    "sb3_lwm": sb3_lwm.__version__,
    "stable_baselines3": stable_baselines3.__version__,
    "gymnasium": gymnasium.__version__,
    "torch": th.__version__,
    "numpy": np.__version__,
    "python": platform.python_version(),
}


def find_runs(folders: list[str]) -> list[Path]:
    """
    :param folders: log folders of the Zoo (its option ``-f``)
    :return: the run folders in them that hold a finished model
    :raises SystemExit: if there is none
    """
    runs = sorted(path.parent for folder in folders for path in Path(folder).glob("lwm_dqn/POL-*_*/POL-*.zip"))
    if not runs:
        raise SystemExit(f"No finished run of lwm_dqn on a POL environment in {', '.join(folders)}.")
    return runs


def read_settings(run: Path) -> dict[str, Any]:
    """
    :param run: a run folder of the Zoo
    :return: what tells it from the other runs
    """
    env_id = run.name.rsplit("_", 1)[0]
    # both files were written by the Zoo with Python types in them
    arguments, settings = (
        yaml.load((run / env_id / name).read_text(), Loader=yaml.UnsafeLoader) for name in ("args.yml", "config.yml")
    )
    return {"env": env_id, "world_model": dict(settings).get("use_world_model", True), "seed": dict(arguments)["seed"]}


def learning_curve(run: Path) -> pd.DataFrame:
    """
    :param run: a run folder of the Zoo
    :return: mean steps of the episodes that ended in each interval, and the wall time at its end
    """
    files = get_monitor_files(str(run))
    episodes = pd.concat([pd.read_csv(file, skiprows=1).assign(env=number) for number, file in enumerate(files)])
    # a step of the run is a step of one environment; all environments take theirs together
    steps = episodes.groupby("env").l.cumsum() * len(files)
    groups = episodes.groupby(((steps - 1) // INTERVAL + 1) * INTERVAL)
    curve = pd.DataFrame({"mean_steps": groups.l.mean(), "episodes": groups.l.size(), "wall_seconds": groups.t.max()})
    return curve.rename_axis("steps").reset_index().assign(kind="training")


def final_evaluation(run: Path, env_id: str, n_episodes: int) -> pd.DataFrame:
    """
    :param run: a run folder of the Zoo
    :param env_id: id of the labyrinth
    :param n_episodes: number of labyrinths
    :return: one row; actions with the model's ``evaluation_eps``, 0.01 by default
    """
    model = sb3_lwm.LWMDQN.load(run / f"{env_id}.zip", device="cpu")
    set_random_seed(EVALUATION_SEED)
    env = make_vec_env(env_id, n_envs=8, seed=EVALUATION_SEED)
    _, lengths = evaluate_policy(model, env, n_episodes, deterministic=False, return_episode_rewards=True)
    row = {"steps": model.num_timesteps, "mean_steps": np.mean(lengths), "episodes": len(lengths), "kind": "evaluation"}
    return pd.DataFrame([row])


def main() -> None:
    """Evaluate every run, write the CSV, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="log folders of the Zoo")
    parser.add_argument("--output", help="CSV to write")
    parser.add_argument("--episodes", type=int, default=128, help="labyrinths of the final evaluation")
    arguments = parser.parse_args()
    parts = []
    for run in tqdm(find_runs(arguments.folders), desc="Evaluating", unit="run"):
        settings = read_settings(run)
        result = pd.concat([learning_curve(run), final_evaluation(run, settings["env"], arguments.episodes)])
        parts.append(result.assign(**settings, **VERSIONS))
    results = pd.concat(parts, ignore_index=True)
    if arguments.output:
        Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
        results.to_csv(arguments.output, index=False, float_format="%.6g")
    columns = results.steps.where(results.kind == "training", "evaluation")
    table = results.assign(column=columns).pivot_table("mean_steps", ["env", "world_model", "seed"], "column", sort=False)
    print(table.to_string(float_format="%.1f"))


if __name__ == "__main__":
    main()
