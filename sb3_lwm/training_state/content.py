"""What a training state holds, piece by piece."""

import inspect
import json
import platform
import sys
import time
import warnings
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import stable_baselines3
import torch as th
from stable_baselines3.common.type_aliases import TrainFreq

from sb3_lwm.common.type_aliases import RecurrentState
from sb3_lwm.training_state import replay
from sb3_lwm.training_state.arguments import UnsavableArgumentError, pack_argument, unpack_argument
from sb3_lwm.training_state.callback_state import callbacks_state
from sb3_lwm.training_state.environments import UnknownStateError, environment_state, set_environment_state
from sb3_lwm.training_state.files import SavedState, SpoiltStateError, StateWriter
from sb3_lwm.training_state.logs import logger_state, resume_logger
from sb3_lwm.training_state.random_state import random_state
from sb3_lwm.training_state.tree import pack, unpack
from sb3_lwm.version import __version__

if TYPE_CHECKING:
    from sb3_lwm.lwm_dqn.resumable_dqn import ResumableDQN

COUNTERS = (
    *("num_timesteps", "_total_timesteps", "_episode_num", "_n_updates", "_n_calls"),
    *("_current_progress_remaining", "exploration_rate"),
)
ACTING = ("_last_obs", "_last_episode_starts", "_sent_actions", "_collected_rollout")
MEMORIES = ("_last_state", "_next_state")
# Given anew when a state is loaded
NOT_SAVED = ("self", "policy", "env", "device", "_init_setup_model")
TREE, ARRAYS = "agent.json", "agent.npy"


def versions() -> dict[str, str]:
    """:return: of what the bits of a training depend on"""
    return {
        "sb3-lwm": __version__,
        "stable-baselines3": stable_baselines3.__version__,
        "torch": th.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def save_content(writer: StateWriter, model: "ResumableDQN", before: replay.ReplayMark | None) -> dict[str, Any]:
    """
    :param writer: of the state
    :param model: between an update and the next rollout
    :param before: how far its replay was in the writer's previous state
    :return: the small data for the manifest
    """
    assert model.replay_buffer is not None and model.ep_info_buffer is not None and model.ep_success_buffer is not None
    tree = {
        "counters": {name: getattr(model, name) for name in COUNTERS},
        "acting": {name: getattr(model, name) for name in (*ACTING, *MEMORIES)},
        "parameters": model.get_parameters(),
        "new_priorities": model._new_priorities,
        "replay": replay.counters(model.replay_buffer),
        "episodes": [list(model.ep_info_buffer), list(model.ep_success_buffer)],
        "environments": _environments(model),
        **(model._resumed_tree or _learning(model, writer.folder)),
    }
    arrays: list[np.ndarray] = []
    packed = json.dumps(pack(tree, arrays)).encode()
    writer.write(TREE, lambda file: file.write(packed))
    writer.write_arrays(ARRAYS, arrays)
    replay.save_rows(writer, model.replay_buffer, before)
    return {
        "num_timesteps": model.num_timesteps,
        "total_timesteps": model._total_timesteps,
        "arguments": saved_arguments(model),
        "versions": versions(),
        "command": " ".join(sys.orig_argv),
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _learning(model: "ResumableDQN", folder: Path) -> dict[str, Any]:
    """:return: what is restored when ``learn`` begins; a model that was loaded and has not learned yet has it as it was"""
    return {
        "logger": logger_state(model.logger, folder),
        "callbacks": [] if model._learning_callback is None else callbacks_state(model._learning_callback),
        "random": random_state(model.action_space),
    }


def _environments(model: "ResumableDQN") -> dict[str, Any] | None:
    # None where the agent does not know what comes next: a failure in an environment
    if model.env is None or model._last_obs is None:
        return None
    try:
        return environment_state(model.env)
    except UnknownStateError as error:
        if not model._has_warned_of_environments:
            model._has_warned_of_environments = True
            warnings.warn(str(error), stacklevel=2)
        return None


def saved_arguments(model: "ResumableDQN") -> dict[str, Any]:
    """
    :param model: an agent
    :return: its constructor's arguments for JSON, and the names of those that cannot be kept
    """
    kept: dict[str, Any] = {"policy": pack_argument(model.policy_class)}
    left_out: dict[str, str] = {}
    for name in inspect.signature(type(model).__init__).parameters:
        if name in NOT_SAVED:
            continue
        value = getattr(model, name) if hasattr(model, name) else getattr(model, f"_{name}")
        if isinstance(value, TrainFreq):
            value = (value.frequency, value.unit.value)
        try:
            kept[name] = pack_argument(value)
        except UnsavableArgumentError as error:
            left_out[name] = str(error)
    return {"kept": kept, "left_out": left_out}


def loaded_arguments(state: SavedState, given: dict[str, Any]) -> dict[str, Any]:
    """
    :param state: that has been checked
    :param given: arguments that go before those of the state
    :return: those for the constructor
    :raises ValueError: if one could not be kept and is not given
    """
    saved = state.info["arguments"]
    for name, value in saved["left_out"].items():
        if name not in given:
            raise ValueError(f"{state.path} cannot hold {name}={value}: give it, load_training_state(path, env, {name}=...).")
    return {**{name: unpack_argument(value) for name, value in saved["kept"].items() if name not in given}, **given}


def read_tree(state: SavedState) -> dict[str, Any]:
    """
    :param state: that has been checked
    :return: what :func:`save_content` has kept beside the replay's rows
    :raises SpoiltStateError: if it is no tree after all
    """
    try:
        return unpack(json.loads((state.path / TREE).read_bytes()), state.load_arrays(ARRAYS))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise SpoiltStateError(f"{state.path / TREE} cannot be read: {error!r}.") from error


def restore_content(model: "ResumableDQN", state: SavedState, tree: dict[str, Any]) -> None:
    """
    :param model: newly made, with the arguments of the one that was saved
    :param state: that has been checked
    :param tree: what :func:`read_tree` has returned; callbacks and generators are left for ``learn``
    """
    model.set_parameters(tree["parameters"], exact_match=True, device=model.device)
    vars(model).update(tree["counters"])
    vars(model).update({name: tree["acting"][name] for name in ACTING})
    for name in MEMORIES:
        parts = tree["acting"][name]
        setattr(model, name, None if parts is None else RecurrentState(*(part.to(model.device) for part in parts)))
    model.replay_buffer = model.allocate_replay()
    replay.load_rows(state, model.replay_buffer, tree["replay"])
    model._new_priorities = [(ids, priorities.to(model.device)) for ids, priorities in tree["new_priorities"]]
    infos, successes = tree["episodes"]
    model.ep_info_buffer = deque(infos, maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(successes, maxlen=model._stats_window_size)
    if tree["environments"] is None:
        # learn() resets them, and ends the episodes under way
        model._last_obs = None
        warnings.warn(f"{state.path} holds no state of the environments: they are reset, which is not exact.", stacklevel=3)
    else:
        assert model.env is not None
        set_environment_state(model.env, tree["environments"])
    if any(part["kind"] != "stdout" for part in tree["logger"]["formats"]):
        model.set_logger(resume_logger(tree["logger"], state.path.parent, state.info["num_timesteps"]))
    if (own := versions()) != state.info["versions"]:
        changed = [f"{name} {state.info['versions'].get(name)} -> {own[name]}" for name in own]
        changed = [text for text, name in zip(changed, own, strict=True) if own[name] != state.info["versions"].get(name)]
        warnings.warn(f"{state.path} was written by other versions ({', '.join(changed)}): not exact.", stacklevel=3)
