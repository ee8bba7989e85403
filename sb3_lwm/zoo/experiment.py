"""The Zoo's ``ExperimentManager`` for ``lwm_dqn``, see :func:`sb3_lwm.zoo.register`."""

import argparse
import contextlib
import functools
import inspect
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import optuna
from gymnasium import spaces
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import get_latest_run_id
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from sb3_lwm.envs import CopyFinalObservation, ReportingSubprocVecEnv
from sb3_lwm.intrinsic import IntrinsicRewardCallback
from sb3_lwm.training_state import TrainingStateCallback
from sb3_lwm.training_state.files import STATES_FOLDER
from sb3_lwm.zoo.hyperparameters import find_hyperparameters, resolve_variant
from sb3_lwm.zoo.sweep.trials import read_hyperparameters, run_trial

# The world model of an IntrinsicRewardCallback, beside the model
WORLD_MODEL = "world_model.pth"
Hyperparameters = dict[str, Any]
Wrapper = Callable[[gym.Env], gym.Env]


class LWMExperimentManager(ExperimentManager):
    """
    The Zoo's manager of an experiment with ``lwm_dqn``. Its differences from the Zoo's own class:

    - The hyperparameters of this package are found without ``config``, which may also be the name of one of their files,
      such as ``"atari-small"``. Their ``env_kwargs`` also apply to the evaluation.
    - Trainings that start at the same moment get different folders. A training that fails before it begins leaves no folder.
      (Doing this for every algorithm would change the Zoo's class; ``python -m sb3_lwm.zoo train`` does it, see
      :mod:`sb3_lwm.zoo.upstream_fixes`.)
    - Every training writes training states, and saves its model when SIGTERM ends it.
    - Every trial has its own seed and does not end the others if it fails, and ``trial_id`` loads all settings of a trial.
    - Errors of environments in other processes are reported, and observations with texts raise an error.

    :param args: The options of the command line
    :param algo: The name of the algorithm, ``"lwm_dqn"``
    :param env_id: The id of the environment
    :param others: The other positional arguments of ``ExperimentManager``
    :param kwargs: The other keyword arguments of ``ExperimentManager``, such as ``config``
    :raises ValueError: If there are no hyperparameters for the environment, or no file of this name
    """

    has_new_log_folder = False

    def __init__(self, args: argparse.Namespace, algo: str, env_id: str, *others: Any, **kwargs: Any) -> None:
        _warn_of_missing_methods()
        config = kwargs.get("config") or str(find_hyperparameters(env_id, is_atari=self.is_atari(env_id)))
        kwargs["config"] = resolve_variant(config)
        super().__init__(args, algo, env_id, *others, **kwargs)
        if self.vec_env_class is SubprocVecEnv:
            self.vec_env_class = ReportingSubprocVecEnv

    def setup_experiment(self) -> tuple[BaseAlgorithm, Hyperparameters] | None:
        try:
            return super().setup_experiment()
        except BaseException:
            if self.has_new_log_folder:
                # `enjoy` would use the empty folder as the latest run
                shutil.rmtree(self.save_path, ignore_errors=True)
            raise

    def read_hyperparameters(self) -> tuple[Hyperparameters, Hyperparameters]:
        return read_hyperparameters(self, ExperimentManager.read_hyperparameters)

    def _preprocess_hyperparams(
        self, hyperparams: Hyperparameters
    ) -> tuple[Hyperparameters, Wrapper | None, list[BaseCallback], Callable | None]:
        rest, env_wrapper, callbacks, vec_env_wrapper = super()._preprocess_hyperparams(hyperparams)
        self.eval_env_kwargs = self.eval_env_kwargs or self.env_kwargs
        return rest, functools.partial(_wrap_without_texts, env_wrapper), callbacks, vec_env_wrapper

    def create_log_folder(self) -> None:
        claim_log_folder(self)
        self.has_new_log_folder = True

    def create_callbacks(self) -> None:
        super().create_callbacks()
        if self.optimize_hyperparameters:
            return
        states = [callback for callback in self.callbacks if isinstance(callback, TrainingStateCallback)]
        if not states:
            states = [TrainingStateCallback()]
            self.callbacks += states
        for callback in states:
            is_on = callback.every_minutes is not None or callback.every_steps is not None or callback.on_signals
            if is_on and callback.folder is None:
                callback.folder = Path(self.save_path, STATES_FOLDER)

    def _load_pretrained_agent(self, hyperparams: Hyperparameters, env: VecEnv) -> BaseAlgorithm:
        has_replay = Path(self.trained_agent).with_name("replay_buffer.pkl").exists()
        warnings.warn(
            f"-i starts a new training with the networks and optimizers of {self.trained_agent}"
            f"{' and the replay beside it' if has_replay else ', with an empty replay'}. Steps and schedules are counted "
            "from 0; environments, random generators and logs are new. To continue a training that was stopped: "
            "python -m sb3_lwm.zoo resume <folder of the run>",
            stacklevel=2,
        )
        return super()._load_pretrained_agent(hyperparams, env)

    def learn(self, model: BaseAlgorithm) -> None:
        with saving_on_exit(self, model):
            super().learn(model)

    def objective(self, trial: optuna.Trial) -> float:
        return run_trial(self, ExperimentManager.objective, trial)


class IntrinsicRewardManager(ExperimentManager):
    """
    The Zoo's manager of an experiment with another algorithm. It has two differences from the Zoo's own class:

    - ``config`` may be the name of a file of this package's hyperparameters, such as ``"minigrid-ppo"``.
    - The world model of an :class:`~sb3_lwm.IntrinsicRewardCallback` is saved beside the model (``world_model.pth``) and with
      every checkpoint, and loaded again for a training that starts from a trained agent (``-i``).

    :param args: The options of the command line
    :param others: The other positional arguments of ``ExperimentManager``
    :param kwargs: The other keyword arguments of ``ExperimentManager``
    :raises ValueError: If no file has this name
    """

    def __init__(self, args: argparse.Namespace, *others: Any, **kwargs: Any) -> None:
        if kwargs.get("config"):
            kwargs["config"] = resolve_variant(kwargs["config"])
        super().__init__(args, *others, **kwargs)

    def _intrinsic_rewards(self) -> list[IntrinsicRewardCallback]:
        return [callback for callback in self.callbacks if isinstance(callback, IntrinsicRewardCallback)]

    def create_callbacks(self) -> None:
        super().create_callbacks()
        if self.optimize_hyperparameters:
            return
        for callback in self._intrinsic_rewards():
            callback.save_path = Path(self.save_path, WORLD_MODEL)
            callback.save_freq = self.save_freq if self.save_freq > 0 else None
            if self.trained_agent:
                # the name of a checkpoint contains its number of steps
                steps = Path(self.trained_agent).stem.removeprefix("rl_model")
                candidates = [Path(self.trained_agent).with_name(f"world_model{steps}.pth")]
                candidates.append(Path(self.trained_agent).with_name(WORLD_MODEL))
                found = next((path for path in candidates if path.exists()), None)
                if found is None:
                    warnings.warn(
                        f"There is no {WORLD_MODEL} beside {self.trained_agent}: its world model is new.", stacklevel=2
                    )
                else:
                    callback.load(found)

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        super().save_trained_model(model)
        for callback in self._intrinsic_rewards():
            callback.save(Path(self.save_path, WORLD_MODEL))


def claim_log_folder(manager: ExperimentManager) -> None:
    """
    Create the folder of a run. Its number is the next free one, even if other runs start at the same moment, since only one
    process succeeds in creating a folder.

    :param manager: The manager of the run, whose paths are changed if its folder already exists
    """
    os.makedirs(manager.log_path, exist_ok=True)
    number = get_latest_run_id(manager.log_path, manager.env_name)
    while True:
        try:
            os.mkdir(manager.save_path)
            break
        except FileExistsError:
            number += 1
            manager.save_path = os.path.join(manager.log_path, f"{manager.env_name}_{number}")
    manager.params_path = f"{manager.save_path}/{manager.env_name}"
    os.makedirs(manager.params_path, exist_ok=True)


@contextlib.contextmanager
def saving_on_exit(manager: ExperimentManager, model: BaseAlgorithm) -> Iterator[None]:
    """
    Save the model if the training ends by the ``SystemExit`` that :class:`~sb3_lwm.TrainingStateCallback` raises after
    SIGTERM; the Zoo itself saves the model only after Ctrl-C.

    :param manager: The manager of the training
    :param model: The model of the training
    """
    try:
        yield
    except SystemExit:
        manager.save_trained_model(model)
        raise


def _warn_of_missing_methods() -> None:
    """Warn if a later version of the Zoo has renamed a method that the subclass overrides."""
    overridden = [name for name, member in vars(LWMExperimentManager).items() if inspect.isfunction(member)]
    missing = [name for name in overridden if not hasattr(ExperimentManager, name)]
    if missing:
        warnings.warn(
            f"sb3-lwm does not support this version of rl_zoo3 yet: its ExperimentManager has no {', '.join(missing)}. Other "
            "algorithms are not concerned; lwm_dqn may not work fully. `pip install --upgrade sb3-lwm`, or install an "
            "earlier rl_zoo3.",
            stacklevel=3,
        )


def _wrap_without_texts(wrapper: Wrapper | None, env: gym.Env) -> gym.Env:
    """Apply the wrappers of the hyperparameters, copy final observations, and raise an error for observations with texts."""
    env = env if wrapper is None else wrapper(env)
    parts = env.observation_space.items() if isinstance(env.observation_space, spaces.Dict) else ()
    # the dtype of the spaces of texts of Gymnasium and of MiniGrid
    texts = [key for key, part in parts if part.dtype is not None and part.dtype.kind == "U"]
    if texts:
        env.close()
        raise ValueError(
            f"{env.unwrapped} observes a text ({', '.join(texts)}), which no network can read: add an `env_wrapper` to "
            "the hyperparameters. For MiniGrid, `minigrid.wrappers.FlatObsWrapper` makes one vector of image and text, and "
            "`[minigrid.wrappers.ImgObsWrapper, gymnasium.wrappers.FlattenObservation]` one of the image alone."
        )
    return CopyFinalObservation(env)
