"""Comparison of two training states to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_lwm.training_state.files import read_state
from sb3_lwm.training_state.training_states import read_tree

# The names of values that depend on the clock
CLOCK = ("t", "episode_times", "time/fps", "time/time_elapsed")


def differences(first: Path, second: Path) -> list[str]:
    """
    :param first: The folder of a training state
    :param second: The folder of another training state
    :return: The names of all parts that differ, except for times and the paths of logs
    """
    states = read_state(first), read_state(second)
    replays = [{name: record for name, record in state.files.items() if name.startswith("replay_")} for state in states]
    names = sorted(replays[0].keys() | replays[1].keys())
    different = [name for name in names if replays[0].get(name) != replays[1].get(name)]
    trees = [read_tree(state) for state in states]
    for tree in trees:
        tree["logger"] = tree["logger"]["pending"]
    return different + _differences(trees[0], trees[1])


def _differences(first: Any, second: Any, where: str = "") -> list[str]:
    if type(first) is not type(second):
        return [where]
    if isinstance(first, dict):
        keys = [key for key in {**first, **second} if key not in CLOCK]
        missing = [f"{where}/{key}" for key in keys if (key in first) != (key in second)]
        shared = [key for key in keys if key in first and key in second]
        return missing + [name for key in shared for name in _differences(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return [where]
        pairs = enumerate(zip(first, second, strict=True))
        return [name for index, (one, other) in pairs for name in _differences(one, other, f"{where}/{index}")]
    if not isinstance(first, np.ndarray | np.generic | th.Tensor):
        # two NaN are taken as equal
        return [] if first == second or (first != first and second != second) else [where]
    arrays = np.asarray(first), np.asarray(second)
    same = arrays[0].dtype == arrays[1].dtype and arrays[0].shape == arrays[1].shape
    return [] if same and arrays[0].tobytes() == arrays[1].tobytes() else [where]
