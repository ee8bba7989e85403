"""Environments in separate processes, whose errors are raised in the training process."""

import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_lwm.envs.copying import CopyFinalObservation


class ErrorReporter(gym.Wrapper):
    """
    Writes an error of its environment into a file, and raises it.

    :param env: The environment
    :param path: The path of the file
    """

    def __init__(self, env: gym.Env, path: Path) -> None:
        super().__init__(env)
        self._path = path

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return _reporting(self._path, self.env.step, action)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        return _reporting(self._path, self.env.reset, **kwargs)


def _reporting(path: Path, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception:
        path.write_text(traceback.format_exc(), encoding="utf-8")
        raise


class _Reported:
    """Makes an environment with an :class:`ErrorReporter`, in a process that ignores Ctrl-C."""

    def __init__(self, make_env: Callable[[], gym.Env], path: Path) -> None:
        self._make_env = make_env
        self._path = path

    def __call__(self) -> gym.Env:
        # otherwise all processes would end before the training can save its state
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return ErrorReporter(CopyFinalObservation(_reporting(self._path, self._make_env)), self._path)


class ReportingSubprocVecEnv(SubprocVecEnv):
    """
    SB3's ``SubprocVecEnv`` with three changes: an error of an environment is raised in the training with its traceback
    instead of an ``EOFError``, Ctrl-C ends the training but not the environments, and final observations are copied before
    the reset.

    :param env_fns: The functions that make the environments, see ``SubprocVecEnv``
    :param start_method: The way to start the processes, see ``SubprocVecEnv``
    :raises RuntimeError: If an environment cannot be made, with its error
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env]], start_method: str | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="environments_"))
        self._paths = [self._folder / f"{index}.txt" for index in range(len(env_fns))]
        try:
            self._ask(super().__init__, [_Reported(*parts) for parts in zip(env_fns, self._paths, strict=True)], start_method)
        except RuntimeError:
            shutil.rmtree(self._folder)
            raise

    def reset(self) -> VecEnvObs:
        """
        :return: The first observations, see ``SubprocVecEnv``
        :raises RuntimeError: If an environment fails, with its error
        """
        return self._ask(super().reset)

    def step_async(self, actions: np.ndarray) -> None:
        """
        :param actions: The actions, (n_envs, ...), see ``SubprocVecEnv``
        :raises RuntimeError: If an environment has failed, with its error
        """
        self._ask(super().step_async, actions)

    def step_wait(self) -> VecEnvStepReturn:
        """
        :return: The results of the step, see ``SubprocVecEnv``
        :raises RuntimeError: If an environment fails, with its error
        """
        return self._ask(super().step_wait)

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except (EOFError, ConnectionError):
            for index, path in enumerate(self._paths):
                if path.exists():
                    raise RuntimeError(f"Environment {index} has failed:\n{path.read_text(encoding='utf-8')}") from None
            raise

    def close(self) -> None:
        """End the processes, also those whose environment has failed; may be called again."""
        try:
            super().close()
        except (EOFError, ConnectionError):
            for process in self.processes:
                process.terminate()
                process.join()
            for remote in self.remotes:
                remote.close()
            self.closed = True
        shutil.rmtree(self._folder, ignore_errors=True)
