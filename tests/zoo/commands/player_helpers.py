"""Runs like those of the Zoo, for the commands that play with a trained agent."""

from pathlib import Path
from typing import Any

import yaml
from helpers import SHORT, make_labyrinths
from stable_baselines3 import DQN

from sb3_lwm import LWMDQN


def write_settings(run: Path, env_id: str, settings: dict[str, Any], env_kwargs: dict[str, Any] | None) -> None:
    """
    :param run: The folder of a run, which is created
    :param env_id: The id of its environment
    :param settings: Its hyperparameters
    :param env_kwargs: The ``--env-kwargs`` of its command line
    """
    folder = run / env_id.replace("/", "-")
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(yaml.dump(settings))
    (folder / "args.yml").write_text(yaml.dump({"env": env_id, "seed": 7, "env_kwargs": env_kwargs}))


def train_labyrinth(folder: Path, algo: str = "lwm_dqn", env_id: str = "POL-v0", **kwargs: Any) -> None:
    """
    Create the folder of a run with a model that has learned nothing.

    :param folder: The folder of the logs
    :param algo: ``"lwm_dqn"`` or ``"dqn"``
    :param env_id: The id of a 2x2 labyrinth
    :param kwargs: Arguments of ``LWMDQN``
    """
    run = folder / algo / f"{env_id}_1"
    write_settings(run, env_id, {}, {"size": 2})
    env = make_labyrinths(1)
    model = DQN("MlpPolicy", env, buffer_size=1) if algo == "dqn" else LWMDQN("MlpPolicy", env, seed=0, **{**SHORT, **kwargs})
    model.save(run / f"{env_id}.zip")
