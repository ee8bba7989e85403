"""Trainings with and without a break, and what must not differ."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.training_state.content import read_tree
from sb3_lwm.training_state.files import read_state

# What depends on the clock
CLOCK = ("t", "episode_times", "time/fps", "time/time_elapsed")


def without_clock(value: Any) -> Any:
    """
    :param value: nested
    :return: the same without what the clock decides
    """
    if isinstance(value, dict):
        return {key: without_clock(part) for key, part in value.items() if key not in CLOCK}
    return type(value)(map(without_clock, value)) if isinstance(value, list | tuple) else value


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """
    :param first: nested values
    :param second: the same to the last bit, or the test fails
    :param where: for the message
    """
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, parts in enumerate(zip(first, second, strict=True)):
            assert_same(*parts, f"{where}/{index}")
    else:
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second), err_msg=where)


def read_log(folder: Path) -> list[dict[str, str]]:
    """
    :param folder: of a run
    :return: the lines of its log
    """
    with open(folder / "progress.csv", newline="", encoding="utf-8") as file:
        return [{key: value for key, value in line.items() if key not in CLOCK} for line in csv.DictReader(file)]


def train(model: LWMDQN, folder: Path, steps: int, every_steps: int = 100, callback: BaseCallback | None = None) -> LWMDQN:
    """
    :param model: new
    :param folder: for its log and its states, all of which stay
    :param steps: to learn
    :param every_steps: between two states
    :param callback: a further one
    :return: the model
    """
    model.set_logger(configure(str(folder), ["csv"]))
    states = TrainingStateCallback(folder / "states", every_minutes=None, every_steps=every_steps, keep_last=100)
    return close_log(model.learn(steps, [states, *([callback] if callback else [])], log_interval=2))


def close_log(model: LWMDQN) -> LWMDQN:
    """
    :param model: whose training has ended
    :return: the same
    """
    model.logger.close()
    model.logger.output_formats.clear()
    return model


def go_on(model: LWMDQN, callback: BaseCallback | None = None) -> LWMDQN:
    """
    :param model: loaded from a state
    :param callback: as in :func:`train`
    :return: the model, at the end of its training
    """
    state = model.last_training_state
    assert state is not None
    states = TrainingStateCallback(state.parent, every_minutes=None, every_steps=100, keep_last=100)
    callbacks = [states, *([callback] if callback else [])]
    return close_log(model.learn(model.remaining_timesteps, callbacks, log_interval=2, reset_num_timesteps=False))


def assert_same_training(first: LWMDQN, second: LWMDQN, folder: Path) -> None:
    """
    Compare all that a training state holds: networks, optimizers, replay, memories, generators, environments, counters.

    :param first: at the end of its training
    :param second: likewise
    :param folder: for two states
    """
    paths = [model.save_training_state(folder / name) for name, model in (("first", first), ("second", second))]
    states = [read_state(path) for path in paths if path is not None]
    replays = [{name: record for name, record in state.files.items() if "replay" in name} for state in states]
    assert replays[0] == replays[1] and len(replays[0]) > 0
    trees = [without_clock(read_tree(state)) for state in states]
    for tree in trees:
        # paths and sizes of logs
        del tree["logger"]["formats"], tree["logger"]["folder"]
    assert_same(*trees)
