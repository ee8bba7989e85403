"""A training that is resumed from a state equals the training without a break, to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from atari_helpers import SHORT_ATARI
from helpers import SHORT, make_labyrinths
from resume_helpers import assert_same_training, continue_training, read_log, train
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm import LWMDQN, AtariVecEnv

EXPLORING = {"exploration_initial_eps": 1.0, "exploration_fraction": 0.8}
LABYRINTHS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "prioritized": {"prioritized_replay": True, "n_steps": 2, "exploration_eps_base": 0.4},
    "compressed": {"compression": "zstd", "train_freq": 1, "gradient_steps": -1, **EXPLORING},
    "wrapped": {"buffer_size": 160, "train_freq": 2, "max_grad_norm": None},
    "no world model": {"use_world_model": False, **EXPLORING},
}


def make_labyrinth_model(**kwargs: Any) -> LWMDQN:
    return LWMDQN("MlpPolicy", make_labyrinths(4), seed=0, **{**SHORT, **kwargs})


def make_games() -> AtariVecEnv:
    return AtariVecEnv("montezuma_revenge", 2, seed=0, max_episode_steps=45, ram_envs=1)


def check(make_model: Callable[[], LWMDQN], make_env: Callable[[], VecEnv], steps: int, tmp_path: Path) -> None:
    unbroken = train(make_model(), tmp_path / "unbroken", steps, every_steps=10_000)
    train(make_model(), tmp_path / "broken", steps)
    states = sorted((tmp_path / "broken" / "states").iterdir(), key=lambda path: int(path.name.split("_")[1]))
    assert len(states) >= 2
    for state in states[1:2]:
        # random numbers that other code has drawn must not matter
        np.random.seed()
        th.seed()
        resumed = LWMDQN.load_training_state(state, make_env(), device="cpu")
        assert 0 < resumed.num_timesteps < steps == resumed.num_timesteps + resumed.remaining_timesteps
        continue_training(resumed)
        assert_same_training(unbroken, resumed, tmp_path / f"from {state.name}")
        assert read_log(tmp_path / "unbroken") == read_log(tmp_path / "broken")


@pytest.mark.parametrize("settings", LABYRINTHS)
def test_resumed_training_in_labyrinths(settings: str, tmp_path: Path) -> None:
    check(lambda: make_labyrinth_model(**LABYRINTHS[settings]), lambda: make_labyrinths(4), 240, tmp_path)


def test_resumed_training_on_atari(tmp_path: Path) -> None:
    arguments = {**SHORT_ATARI, "step_ahead": True, "prioritized_replay": True, "compression": "zstd"}
    check(lambda: LWMDQN("CnnPolicy", make_games(), seed=0, **arguments), make_games, 210, tmp_path)
