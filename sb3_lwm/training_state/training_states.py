"""The training states of an agent: writing them, reading them, and the points of a training where one may be written."""

import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import stable_baselines3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm.common.finite_guard import FiniteGuard
from sb3_lwm.replay import SequenceReplayBuffer
from sb3_lwm.training_state import files, replay
from sb3_lwm.training_state.callback_state import callbacks_state, set_callbacks_state
from sb3_lwm.training_state.environments import UnknownStateError, environment_state, set_environment_state
from sb3_lwm.training_state.locking import check_unused
from sb3_lwm.training_state.logs import logger_state, restore_pending, resume_logger
from sb3_lwm.training_state.packing import pack, unpack
from sb3_lwm.training_state.random_state import random_state, set_random_state
from sb3_lwm.version import __version__

TREE, ARRAYS = "agent.json", "agent.npy"
# The parts of the tree that are restored when learn() begins
AT_LEARN = ("callbacks", "logger", "random")


class Resumable(Protocol):
    """An agent whose state can be saved and restored."""

    num_timesteps: int
    action_space: spaces.Space
    rng: np.random.Generator
    torch_rng: th.Generator
    env: VecEnv | None
    replay_buffer: SequenceReplayBuffer | None
    finite_guard: FiniteGuard

    @property
    def total_timesteps(self) -> int:
        """:return: The number of steps at which the training ends"""

    @property
    def logger(self) -> Logger:
        """:return: The logger of the training"""

    def set_logger(self, logger: Logger) -> None:
        """:param logger: The logger to use"""

    def constructor_arguments(self) -> dict[str, Any]:
        """:return: The arguments that make an equal agent, except for the environment and the device"""

    def knows_environments(self) -> bool:
        """:return: Whether the agent's last observation is the present one of its environments"""

    def get_training_state(self) -> dict[str, Any]:
        """:return: The counters, networks, optimizers and hidden states; without the replay's rows"""

    def set_training_state(self, state: dict[str, Any], knows_environments: bool) -> None:
        """
        :param state: The result of :meth:`get_training_state`
        :param knows_environments: Whether the environments were restored, too; if False the next ``learn`` resets them
        """


def versions() -> dict[str, str]:
    """:return: The versions on which the last bit of a training depends"""
    return {
        "sb3-lwm": __version__,
        "stable-baselines3": stable_baselines3.__version__,
        "torch": th.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


class TrainingStates:
    """
    The training states of one agent, which holds this object and calls it at the points where a state may be written.

    :param model: The agent
    """

    def __init__(self, model: Resumable) -> None:
        self._model = model
        # the newest state that the agent has written or was loaded from, and the number of rows of its replay
        self._last: tuple[files.SavedState, replay.ReplayMark] | None = None
        # the parts of a loaded state that are restored when learn() begins
        self._pending: dict[str, Any] | None = None
        self._callback: BaseCallback | None = None
        self._has_warned_of_environments = False
        self._listeners: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._ends_of_learning = ExitStack()

    def __getstate__(self) -> dict[str, Any]:
        """:return: All attributes, without those of the present or last call of ``learn``"""
        return {**vars(self), "_callback": None, "_listeners": [], "_ends_of_learning": ExitStack()}

    @property
    def last(self) -> Path | None:
        """:return: The newest state that the agent has written or was loaded from; None if there is none"""
        return None if self._last is None else self._last[0].path

    # --- The course of a training ---

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Call the functions of :meth:`at_end_of_learning` when the block ends, even by an exception."""
        with self._ends_of_learning:
            yield

    def begin(self, callback: BaseCallback) -> None:
        """
        Restore the parts that a resumed agent could not restore before: callback counters, log and random generators.

        :param callback: The callback of ``learn`` with all callbacks inside it
        """
        self._callback = callback
        if self._pending is None:
            return
        tree, self._pending = self._pending, None
        set_callbacks_state(callback, tree["callbacks"])
        restore_pending(self._model.logger, tree["logger"])
        set_random_state(self._model, tree["random"])

    def at_safe_points(self, listener: Callable[[], None], on_failure: Callable[[], None]) -> None:
        """
        :param listener: The function to call, until ``learn`` ends, wherever the agent is complete: before each rollout, and
            before each update of the pretraining
        :param on_failure: The function to call when an exception ends a rollout
        """
        self._listeners.append((listener, on_failure))
        self.at_end_of_learning(self._listeners.clear)

    def at_end_of_learning(self, function: Callable[..., Any], *args: Any) -> None:
        """
        :param function: The function to call when ``learn`` ends, even by an exception
        :param args: The arguments of the function
        """
        self._ends_of_learning.callback(function, *args)

    def safe_point(self) -> None:
        """Notify the listeners that the agent is complete and a training state may be saved."""
        for listener, _ in self._listeners:
            listener()

    def failed(self) -> None:
        """Notify the listeners that an exception has ended a rollout."""
        for _, on_failure in self._listeners:
            on_failure()

    # --- Writing ---

    def save(self, folder: Path, keep_last: int) -> Path | None:
        """
        Write a state; see :meth:`LWMDQN.save_training_state`.

        :param folder: The folder of the states
        :param keep_last: The number of states to keep there
        :return: The folder of the state; None, with a warning, if it could not be written
        """
        self._model.finite_guard.read()
        assert self._model.replay_buffer is not None, "The agent has no replay yet: learn first."
        # unchanged files are shared with a state in the same folder
        last = self._last
        previous, before = last if last is not None and last[0].path.parent.resolve() == folder.resolve() else (None, None)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = files.name_for(folder, self._model.num_timesteps)
            with files.StateWriter(folder, name, previous) as writer:
                state = writer.commit(self._write(writer, before))
            self._last = (state, replay.mark(self._model.replay_buffer))
            # states that count as newer are spoilt, or belong to a continuation that was abandoned
            states = files.find_states(folder)
            position = states.index(state.path)
            files.remove_states([*states[:position], *states[position + keep_last :]])
        except OSError as error:
            warnings.warn(
                f"The training state could not be saved in {folder}: {error}. The training continues; the last whole state is "
                f"{self.last}.",
                RuntimeWarning,
                stacklevel=3,
            )
            return None
        return state.path

    def _write(self, writer: files.StateWriter, before: replay.ReplayMark | None) -> dict[str, Any]:
        """Write the files of a state, and return the small data for its manifest."""
        model = self._model
        assert model.replay_buffer is not None
        tree = {
            "agent": model.get_training_state(),
            "replay": model.replay_buffer.get_training_state(),
            "environments": self._environments(),
            **(self._pending or self._learning(writer.folder)),
        }
        arrays: list[np.ndarray] = []
        packed = json.dumps(pack(tree, arrays)).encode()
        writer.write(TREE, lambda file: file.write(packed))
        writer.write_arrays(ARRAYS, arrays)
        replay.save_blocks(writer, model.replay_buffer, before)
        return {
            "num_timesteps": model.num_timesteps,
            "total_timesteps": model.total_timesteps,
            "arguments": packed_arguments(model.constructor_arguments()),
            "versions": versions(),
            "command": " ".join(sys.orig_argv),
            "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }

    def _learning(self, folder: Path) -> dict[str, Any]:
        """Return the parts that :meth:`begin` restores."""
        return {
            "logger": logger_state(self._model.logger, folder),
            "callbacks": [] if self._callback is None else callbacks_state(self._callback),
            "random": random_state(self._model),
        }

    def _environments(self) -> dict[str, Any] | None:
        """Return the state of the environments; None, with one warning, if it is not known."""
        if self._model.env is None or not self._model.knows_environments():
            return None
        try:
            return environment_state(self._model.env)
        except UnknownStateError as error:
            if not self._has_warned_of_environments:
                self._has_warned_of_environments = True
                warnings.warn(str(error), stacklevel=2)
            return None

    # --- Reading ---

    def restore(self, state: files.SavedState, tree: dict[str, Any]) -> None:
        """
        Restore an agent that was made with the arguments of the state.

        :param state: A state whose files have been checked
        :param tree: The result of :func:`read_tree`; callbacks and random generators wait for :meth:`begin`
        """
        model = self._model
        model.set_training_state(tree["agent"], tree["environments"] is not None)
        assert model.replay_buffer is not None
        model.replay_buffer.set_training_state(tree["replay"])
        replay.load_blocks(state, model.replay_buffer)
        if tree["environments"] is None:
            # learn() resets them, which ends their present episodes
            warnings.warn(
                f"{state.path} holds no state of the environments: they are reset, which is not exact.", stacklevel=4
            )
        else:
            assert model.env is not None
            set_environment_state(model.env, tree["environments"])
        if any(part["kind"] != "stdout" for part in tree["logger"]["formats"]):
            model.set_logger(resume_logger(tree["logger"], state.path.parent, state.info["num_timesteps"]))
        own, saved = versions(), state.info["versions"]
        if changed := [f"{name} {saved.get(name)} -> {own[name]}" for name in own if own[name] != saved.get(name)]:
            warnings.warn(f"{state.path} was written by other versions ({', '.join(changed)}): not exact.", stacklevel=4)
        self._pending = {name: tree[name] for name in AT_LEARN}
        self._last = (state, replay.mark(model.replay_buffer))


def packed_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """
    :param arguments: The arguments of an agent's constructor
    :return: The arguments for JSON, and the names of those that cannot be kept
    """
    kept: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, value in arguments.items():
        try:
            kept[name] = pack(value)
        except TypeError:
            left_out[name] = f"{value!r:.80}"
    return {"kept": kept, "left_out": left_out}


def loaded_arguments(state: files.SavedState, given: dict[str, Any]) -> dict[str, Any]:
    """
    :param state: A state whose files have been checked
    :param given: Arguments that override those of the state
    :return: The arguments of the constructor
    :raises ValueError: If an argument could not be kept and is not given
    """
    saved = state.info["arguments"]
    for name, value in saved["left_out"].items():
        if name not in given:
            raise ValueError(f"{state.path} cannot hold {name}={value}: give it, load_training_state(path, env, {name}=...).")
    return {**{name: unpack(value) for name, value in saved["kept"].items() if name not in given}, **given}


def read_tree(state: files.SavedState) -> dict[str, Any]:
    """
    :param state: A state whose files have been checked
    :return: All data of the state except for the replay's rows
    :raises SpoiltStateError: If it cannot be read in spite of correct checksums
    """
    try:
        return unpack(json.loads((state.path / TREE).read_bytes()), state.load_arrays(ARRAYS))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise files.SpoiltStateError(f"{state.path / TREE} cannot be read: {error!r}.") from error


def newest_state(path: Path) -> tuple[files.SavedState, dict[str, Any]]:
    """
    Find the newest complete state, with a warning for each newer one that is not complete.

    :param path: The folder of a state, of several states, or of a run
    :return: The state, and the result of :func:`read_tree`
    :raises ValueError: If no state is complete, or the training is still running
    """
    spoilt = []
    for candidate in files.candidates(path):
        try:
            state = files.read_state(candidate)
            tree = read_tree(state)
        except files.SpoiltStateError as error:
            spoilt.append(str(error))
            continue
        # checked here, since the logs are about to be cut back
        check_unused(candidate.parent)
        for message in spoilt:
            warnings.warn(f"{message} An older state is used, {candidate.name}.", stacklevel=3)
        return state, tree
    raise ValueError(f"{path} has no complete training state: {' '.join(spoilt)}")
