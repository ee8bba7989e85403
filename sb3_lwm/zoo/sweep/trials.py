"""Trials of ``lwm_dqn``: functions for the Zoo's ``ExperimentManager`` that run a trial and load a saved one."""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable
from pprint import pprint
from typing import Any

import optuna
import torch as th
from stable_baselines3.common.utils import set_random_seed

from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.zoo.sweep.search_space import CONTEXT, convert_lwm_dqn_params, merge
from sb3_lwm.zoo.sweep.study import SETTINGS, find_trial, load_study


def run_trial(manager: Any, objective: Callable[[Any, optuna.Trial], float], trial: optuna.Trial) -> float:
    """
    Run a trial with its own seed and its own copy of the settings.

    :param manager: The ``ExperimentManager`` after its setup. It is not changed, since the Zoo's threads share it.
    :param objective: The Zoo's function ``ExperimentManager.objective``
    :param trial: The trial. Its attribute ``seed`` is by default the manager's seed plus its number, with at most 32 bits.
    :return: The mean reward of the last evaluation
    :raises TrialPruned: If the pruner stops the trial, or after an error, which is written to the trial's attribute
        ``failure``: a ``ValueError`` or ``AssertionError`` in the training, such as a non-finite loss, or a lack of memory
    """
    if "seed" not in trial.user_attrs:
        trial.set_user_attr("seed", (manager.seed + trial.number) % 2**32)
    manager = copy.copy(manager)
    manager.seed = trial.user_attrs["seed"]
    manager._hyperparams = copy.deepcopy(manager._hyperparams)
    set_random_seed(manager.seed)
    token = CONTEXT.set((manager._hyperparams, manager.custom_hyperparams or {}))
    try:
        return objective(manager, trial)
    except (optuna.TrialPruned, MemoryError, th.OutOfMemoryError) as error:
        # if the training raises an error, the Zoo prunes the trial with this error as the cause
        reason = error.__cause__ if isinstance(error, optuna.TrialPruned) else error
        if reason is not None:
            trial.set_user_attr("failure", f"{type(reason).__name__}: {reason}")
        raise optuna.TrialPruned(str(reason or error)) from reason
    finally:
        CONTEXT.reset(token)


def read_hyperparameters(manager: Any, read: Callable[[Any], Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Read the settings, and merge the trial of ``--trial-id`` into them: into the settings of its study if ``sweep`` created it,
    else into those of the file. ``-params`` overrides both. The Zoo itself (rl_zoo3 2.9.2) ignores ``--trial-id 0`` and the
    ``policy_kwargs`` of the settings.

    :param manager: The ``ExperimentManager``
    :param read: The Zoo's function ``ExperimentManager.read_hyperparameters``
    :return: The hyperparameters to use and those to save. Both are copies: the Zoo would change the settings of a module.
    :raises ValueError: If the trial does not exist, or belongs to another algorithm or environment
    """
    without_trial = copy.copy(manager)
    without_trial.trial_id = None
    hyperparams, _ = read(without_trial)
    if manager.trial_id is not None:
        if not (manager.storage and manager.study_name):
            raise ValueError(f"--trial-id {manager.trial_id} needs --storage and --study-name.")
        study = load_study(manager.storage, manager.study_name)
        chosen = convert_lwm_dqn_params(find_trial(study, manager.trial_id).params)
        print(f"Hyperparameters of trial {manager.trial_id} of the study {study.study_name}:")
        pprint(chosen)
        if unknown := chosen.keys() - inspect.signature(LWMDQN).parameters.keys():
            raise ValueError(
                f"The study {study.study_name} has another algorithm: lwm_dqn has no {', '.join(sorted(unknown))}."
            )
        settings = study.user_attrs.get(SETTINGS, {"env": manager.env_name.gym_id, "hyperparams": hyperparams})
        if settings["env"] != manager.env_name.gym_id:
            raise ValueError(f"The study {study.study_name} is for {settings['env']}: copy the block of sweep_report.")
        hyperparams = merge(settings["hyperparams"], chosen) | (manager.custom_hyperparams or {})
        if manager.env_kwargs and "env_kwargs" in hyperparams:
            hyperparams["env_kwargs"] = manager.env_kwargs
    return copy.deepcopy(hyperparams), copy.deepcopy(OrderedDict(sorted(hyperparams.items())))
