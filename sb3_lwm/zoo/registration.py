"""Makes the Zoo know the algorithm and find its hyperparameters."""

import functools
import importlib
import inspect
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_lwm.envs import ReportingSubprocVecEnv
from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.training_state import TrainingStateCallback
from sb3_lwm.training_state.files import STATES_FOLDER
from sb3_lwm.zoo.hyperparameters import find_hyperparameters, resolve_variant
from sb3_lwm.zoo.sweep.search_space import convert_lwm_dqn_params, sample_lwm_dqn_params
from sb3_lwm.zoo.sweep.trials import read_hyperparameters, run_trial
from sb3_lwm.zoo.workarounds import (
    give_runs_folders_of_their_own,
    pass_env_kwargs_to_the_evaluation,
    remove_folders_of_runs_that_never_began,
)

ALGORITHM = "lwm_dqn"


class _PatchedOnFirstUse(ModuleType):
    """The module ``rl_zoo3.exp_manager`` until somebody takes ``ExperimentManager`` out of it, which is then patched."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "ExperimentManager":
            self.__class__ = ModuleType  # type: ignore[assignment]
            _patch(value)
        return value


def register() -> None:
    """
    Add ``lwm_dqn`` to the Zoo's algorithms, with what Optuna may choose for it, and let it find its hyperparameters without
    ``--conf-file``.

    The environments are registered by the import of ``sb3_lwm``. May be called again at no cost.
    """
    # The Zoo's modules have all imported these dictionaries by name: they must be changed in place.
    ALGOS[ALGORITHM] = LWMDQN
    HYPERPARAMS_SAMPLER[ALGORITHM] = sample_lwm_dqn_params
    HYPERPARAMS_CONVERTER[ALGORITHM] = convert_lwm_dqn_params
    exp_manager = importlib.import_module("rl_zoo3.exp_manager")
    if hasattr(exp_manager, "ExperimentManager"):
        _patch(exp_manager.ExperimentManager)
    else:
        # rl_zoo3.exp_manager imports custom_envs, which calls us, before it defines the class.
        exp_manager.__class__ = _PatchedOnFirstUse


def _patch(experiment_manager: type) -> None:
    """
    :param experiment_manager: the class, changed in place, once: the Zoo's modules have imported it by name
    """
    if hasattr(experiment_manager, "knows_lwm_dqn"):
        return
    for change in (
        _find_hyperparameters_by_default,
        give_runs_folders_of_their_own,
        functools.partial(remove_folders_of_runs_that_never_began, algorithm=ALGORITHM),
        functools.partial(pass_env_kwargs_to_the_evaluation, algorithm=ALGORITHM),
        _run_and_load_trials,
        _give_folders_to_states,
        _warn_of_what_is_lost,
    ):
        try:
            change(experiment_manager)
        except AttributeError as error:
            # Each takes the methods that it replaces before it replaces any. A Zoo that has renamed one still serves the
            # other algorithms, which are imported from the same class.
            warnings.warn(
                f"This version of rl_zoo3 is not yet known to sb3-lwm: {error}. Other algorithms are not concerned; "
                f"{ALGORITHM} may work in part only. `pip install --upgrade sb3-lwm`, or install an earlier rl_zoo3.",
                stacklevel=2,
            )
    experiment_manager.knows_lwm_dqn = True  # type: ignore[attr-defined]


def _find_hyperparameters_by_default(experiment_manager: type) -> None:
    """
    Let ``ExperimentManager`` look into our files when it is given none; the Zoo looks into a folder of its own only.

    :param experiment_manager: the class, changed in place
    """
    original = experiment_manager.__init__  # type: ignore[misc]
    signature = inspect.signature(original)

    @functools.wraps(original)
    def patched(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        if given["algo"] == ALGORITHM:
            env_id, config = given["env_id"], given.get("config")
            if config is None:
                given["config"] = str(find_hyperparameters(env_id, is_atari=given["self"].is_atari(env_id)))
            else:
                given["config"] = resolve_variant(config)
        original(*bound.args, **bound.kwargs)
        if given["algo"] == ALGORITHM and given["self"].vec_env_class is SubprocVecEnv:
            given["self"].vec_env_class = ReportingSubprocVecEnv

    experiment_manager.__init__ = patched  # type: ignore[misc]


def _run_and_load_trials(experiment_manager: type) -> None:
    """
    Give each trial its own seed and settings, and load a saved trial for ``--trial-id``.

    :param experiment_manager: the class, changed in place
    """
    objective, read = experiment_manager.objective, experiment_manager.read_hyperparameters  # type: ignore[attr-defined]

    @functools.wraps(objective)
    def patched_objective(self: Any, trial: Any) -> float:
        return run_trial(self, objective, trial) if self.algo == ALGORITHM else objective(self, trial)

    @functools.wraps(read)
    def patched_read(self: Any) -> Any:
        return read_hyperparameters(self, read) if self.algo == ALGORITHM else read(self)

    experiment_manager.objective = patched_objective  # type: ignore[attr-defined]
    experiment_manager.read_hyperparameters = patched_read  # type: ignore[attr-defined]


def _give_folders_to_states(experiment_manager: type) -> None:
    """
    Let a run write its training states into its own folder; a sweep, whose trials have none, writes none.

    :param experiment_manager: the class, changed in place
    """
    original = experiment_manager.create_callbacks  # type: ignore[attr-defined]

    @functools.wraps(original)
    def patched(self: Any) -> None:
        original(self)
        for callback in self.callbacks:
            if isinstance(callback, TrainingStateCallback) and callback.folder is None and not self.optimize_hyperparameters:
                callback.folder = Path(self.save_path) / STATES_FOLDER

    experiment_manager.create_callbacks = patched  # type: ignore[attr-defined]


def _warn_of_what_is_lost(experiment_manager: type) -> None:
    """
    Let ``-i`` say what it does not restore.

    :param experiment_manager: the class, changed in place
    """
    original = experiment_manager._load_pretrained_agent  # type: ignore[attr-defined]

    @functools.wraps(original)
    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.algo == ALGORITHM:
            has_replay = (Path(self.trained_agent).parent / "replay_buffer.pkl").exists()
            warnings.warn(
                f"-i begins a new training with the networks and optimizers of {self.trained_agent}"
                f"{' and the replay beside it' if has_replay else ', with an empty replay'}. Steps and schedules are counted "
                "from 0; environments, random generators and logs begin anew. To go on with a run that was stopped: "
                "python -m sb3_lwm.zoo resume <folder of the run>",
                stacklevel=2,
            )
        return original(self, *args, **kwargs)

    experiment_manager._load_pretrained_agent = patched  # type: ignore[attr-defined]
