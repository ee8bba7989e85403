"""
Scores of all trainings in log folders of the RL Zoo, as a CSV and a table: 100 episodes of each run's last model.

First train several seeds of each environment, in one log folder for each kind of settings::

    python -m sb3_lwm.zoo seeds --seeds 1 2 3 --algo lwm_dqn --env MountainCar-v0 -f logs/lwm_dqn
    python -m sb3_lwm.zoo seeds --seeds 1 2 3 --algo dqn --env MountainCar-v0 -n 100000 -f logs/dqn_zoo

then::

    python benchmarks/zoo_scores.py logs/lwm_dqn logs/dqn_zoo --output benchmarks/results/zoo_scores.csv
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from tqdm import tqdm
from versions import VERSIONS

from sb3_lwm.common.evaluation import play_games
from sb3_lwm.common.exploration import explore
from sb3_lwm.zoo import register
from sb3_lwm.zoo.commands import evaluate
from sb3_lwm.zoo.commands.player import load_player, make_env
from sb3_lwm.zoo.registration import ALGORITHM

EVALUATION_SEED = 10_000  # the seeds of its environments are not used by any training run


def find_runs(folders: list[Path]) -> list[Path]:
    """
    :param folders: The log folders of the Zoo (its option ``-f``)
    :return: The run folders in them that contain a finished model
    :raises SystemExit: If there are none
    """
    runs = sorted(
        run for folder in folders for run in folder.glob("*/*_*") if (run / f"{run.name.rsplit('_', 1)[0]}.zip").exists()
    )
    if not runs:
        raise SystemExit(f"No finished run in {', '.join(map(str, folders))}.")
    return runs


class EpsilonGreedy:
    """
    An agent with random actions, as in the evaluation of an LWMDQN.

    :param model: The agent, which plays deterministically
    :param eps: The probability of a uniformly random action
    """

    def __init__(self, model: BaseAlgorithm, eps: float) -> None:
        self.model, self.eps = model, eps
        self.rng = np.random.default_rng(EVALUATION_SEED)

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[np.ndarray, Any]:
        """See :meth:`stable_baselines3.common.base_class.BaseAlgorithm.predict`."""
        actions, state = self.model.predict(observation, state, episode_start, deterministic)
        assert isinstance(self.model.action_space, spaces.Discrete)
        return explore(actions, self.eps, int(self.model.action_space.n), self.rng), state


def training_arguments(run: Path) -> dict[str, Any]:
    """
    :param run: A run folder of the Zoo
    :return: The arguments of its ``train``
    """
    (file,) = run.glob("*/args.yml")
    # the Zoo's file contains Python types; the folder of ALE/Pong-v5 is ALE-Pong-v5_1
    arguments: dict[str, Any] = yaml.unsafe_load(file.read_text(encoding="utf-8"))
    return arguments


def score(
    run: Path,
    n_episodes: int,
    checkpoint: int | None = None,
    env_kwargs: Sequence[str] = (),
    eps: float | None = None,
) -> dict[str, Any]:
    """
    :param run: A run folder of the Zoo, folder/algorithm/environment_number
    :param n_episodes: The number of episodes
    :param checkpoint: The number of steps of a checkpoint; None for the last model
    :param env_kwargs: The arguments that override those of the environment, in the form of the Zoo's ``--env-kwargs``
    :param eps: The random action probability of every algorithm; None for the ``evaluation_eps`` of an LWMDQN, and for the
        actions of ``enjoy`` of others
    :return: A row of the CSV
    """
    arguments, algo = training_arguments(run), run.parent.name
    which = ["--env", arguments["env"], "--algo", algo, "-f", str(run.parents[1]), "--exp-id", run.name.rsplit("_", 1)[1]]
    how = ["--n-games", str(n_episodes), "--n-envs", "20", "--seed", str(EVALUATION_SEED), "--device", "cpu"]
    when = [] if checkpoint is None else ["--load-checkpoint", str(checkpoint)]
    where = ["--env-kwargs", *env_kwargs] if env_kwargs else []
    random = ["--eps", str(eps)] if algo == ALGORITHM and eps is not None else []
    options = evaluate.parse([*which, *how, *when, *where, *random])
    model, path, deterministic = load_player(options)
    player = model if algo == ALGORITHM or eps is None else EpsilonGreedy(model, eps)
    set_random_seed(EVALUATION_SEED)
    env = make_env(options, str(path))
    scores = [game.score for game in play_games(player, env, n_episodes, deterministic).first_started]
    env.close()
    who = {"settings": run.parents[1].name, "algo": algo, "env": arguments["env"], "seed": arguments["seed"]}
    found = {"mean_score": np.mean(scores), "standard_deviation": np.std(scores)}
    extremes = {"minimum": np.min(scores), "maximum": np.max(scores)}
    return {**who, "steps": model.num_timesteps, "episodes": len(scores), **found, **extremes, **VERSIONS}


def main() -> None:
    """Evaluate every run, write the CSV, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="The log folders of the Zoo")
    parser.add_argument("--output", type=Path, help="The CSV to write")
    parser.add_argument("--episodes", type=int, default=100, help="The number of episodes of each run")
    arguments = parser.parse_args()
    register()
    runs = tqdm(find_runs(arguments.folders), desc="Evaluating", unit="run")
    results = pd.DataFrame([score(run, arguments.episodes) for run in runs])
    results = results.sort_values(["env", "settings", "seed"])
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        results.to_csv(arguments.output, index=False, float_format="%.6g")
    table = results.pivot_table("mean_score", ["env", "settings", "algo", "steps"], "seed", sort=False)
    print(table.to_string(float_format="%.2f"))


if __name__ == "__main__":
    main()
