"""Trainings with and without a break, and their comparison."""

import csv
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.training_state.comparison import CLOCK, differences


def read_log(folder: Path) -> list[dict[str, str]]:
    """
    :param folder: The folder of a run
    :return: The lines of its log
    """
    with open(folder / "progress.csv", newline="", encoding="utf-8") as file:
        return [{key: value for key, value in line.items() if key not in CLOCK} for line in csv.DictReader(file)]


def train(model: LWMDQN, folder: Path, steps: int, every_steps: int = 100, callback: BaseCallback | None = None) -> LWMDQN:
    """
    :param model: A new model
    :param folder: The folder for its log and its states, all of which are kept
    :param steps: The number of steps of the training
    :param every_steps: The number of steps between two states
    :param callback: A further callback
    :return: The model
    """
    model.set_logger(configure(str(folder), ["csv"]))
    states = TrainingStateCallback(folder / "states", every_minutes=None, every_steps=every_steps, keep_last=100)
    return close_log(model.learn(steps, [states, *([callback] if callback else [])], log_interval=2))


def close_log(model: LWMDQN) -> LWMDQN:
    """
    :param model: A model whose training has ended
    :return: The same model
    """
    model.logger.close()
    model.logger.output_formats.clear()
    return model


def continue_training(model: LWMDQN, callback: BaseCallback | None = None) -> LWMDQN:
    """
    :param model: A model that was loaded from a state
    :param callback: A further callback
    :return: The model at the end of its training
    """
    state = model.last_training_state
    assert state is not None
    states = TrainingStateCallback(state.parent, every_minutes=None, every_steps=100, keep_last=100)
    callbacks = [states, *([callback] if callback else [])]
    return close_log(model.learn(model.remaining_timesteps, callbacks, log_interval=2, reset_num_timesteps=False))


def assert_same_training(first: LWMDQN, second: LWMDQN, folder: Path) -> None:
    """
    Compare all data of training states: networks, optimizers, replay, hidden states, generators, environments, counters.

    :param first: A model at the end of its training
    :param second: Another model at the end of its training
    :param folder: The folder for two states
    """
    paths = [model.save_training_state(folder / name) for name, model in (("first", first), ("second", second))]
    assert paths[0] is not None and paths[1] is not None
    assert differences(paths[0], paths[1]) == []
