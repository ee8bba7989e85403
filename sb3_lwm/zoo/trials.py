"""
Trials of ``lwm_dqn`` in the Zoo's own ``ExperimentManager``: each has a seed of its own and ends alone when it fails in a
known way, and the settings of a saved one load with ``--trial-id``.
"""

import copy
import inspect
import traceback
from collections import OrderedDict
from pprint import pprint
from typing import Any

import optuna
import torch as th
from stable_baselines3.common.utils import set_random_seed

from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.zoo.search_space import CONTEXT, TrialContext, convert_lwm_dqn_params, merge
from sb3_lwm.zoo.storage import load_study, open_storage

# Name of the study's attribute with the settings, which is written last when `sweep` begins a study
SETTINGS = "lwm_sweep"
# What PyTorch says when the host, CUDA or cuDNN has no memory left, where it raises a plain RuntimeError
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED")


def run_trial(manager: Any, objective: Any, trial: optuna.Trial) -> float:
    """
    Run a trial with its seed, which ``rl_zoo3.train --seed`` repeats.

    :param manager: an ``ExperimentManager`` that is set up
    :param objective: its function
    :param trial: its attribute ``seed`` is taken, or else set: the manager's seed plus the trial's number
    :return: the mean reward of the last evaluation
    :raises TrialPruned: if the pruner says so, or the trial's values cannot work, or there is not enough memory; the
        reason is then its attribute ``failure``
    """
    if "seed" not in trial.user_attrs:
        trial.set_user_attr("seed", trial_seed(manager.seed, trial.number))
    # The Zoo's trials share the manager, with threads all at once: this one has its own seed and settings.
    manager = copy.copy(manager)
    manager.seed = trial.user_attrs["seed"]
    manager._hyperparams = copy.deepcopy(manager._hyperparams)
    context = TrialContext(manager._hyperparams, frozenset(manager.custom_hyperparams or ()))
    set_random_seed(manager.seed)
    token = CONTEXT.set(context)
    try:
        return objective(manager, trial)
    except optuna.TrialPruned as pruned:
        if pruned.__cause__ is not None:
            trial.set_user_attr("failure", _describe(pruned.__cause__))
        raise
    except (ValueError, AssertionError, MemoryError, RuntimeError) as error:
        if not _is_known(error):
            raise
        trial.set_user_attr("failure", _describe(error))
        # the frames of the failed trial hold its networks and its replay
        traceback.clear_frames(error.__traceback__)
        if th.cuda.is_available():
            th.cuda.empty_cache()
        raise optuna.TrialPruned(_describe(error)) from None
    finally:
        CONTEXT.reset(token)


def trial_seed(base: int, number: int) -> int:
    """
    :param base: seed of the study
    :param number: of the trial
    :return: seed of the trial, which NumPy wants to have at most 32 bits
    """
    return (base + number) % 2**32


def _is_known(error: Exception) -> bool:
    """:return: whether it is the trial's own: values that do not fit each other, or not enough memory"""
    if isinstance(error, RuntimeError):
        is_out_of_memory = any(words in str(error) for words in OUT_OF_MEMORY)
        return isinstance(error, th.OutOfMemoryError) or is_out_of_memory
    return True


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def read_with_trial(manager: Any, read_hyperparameters: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Read the settings and put a saved trial over them, ``-params`` over both. A trial of ``sweep`` goes over the settings of
    its study, not over those of the file. The Zoo passes over ``--trial-id 0`` and drops what the settings have in
    ``policy_kwargs`` (rl_zoo3 2.9.2).

    :param manager: an ``ExperimentManager`` with a trial
    :param read_hyperparameters: its function
    :return: what the function returns
    :raises ValueError: if there is no such study or trial, or it is of something else
    """
    trial_id = manager.trial_id
    if not (manager.storage and manager.study_name):
        raise ValueError(f"--trial-id {trial_id} is a trial of which study? Pass --storage and --study-name, too.")
    study = load_study(open_storage(manager.storage, create=False), manager.study_name)
    chosen = convert_lwm_dqn_params(find_trial(study, trial_id).params)
    settings = study.user_attrs.get(SETTINGS)
    _require_same(manager, study, chosen)
    manager.trial_id = None
    try:
        of_the_file, _ = read_hyperparameters(manager)
    finally:
        manager.trial_id = trial_id
    print(f"Trial {trial_id} of the study {study.study_name}, over {manager.config if settings is None else 'its settings'}:")
    pprint(chosen)
    merged = merge(of_the_file if settings is None else of_the_study(settings), chosen)
    merged.update(manager.custom_hyperparams or {})
    if manager.env_kwargs and "env_kwargs" in merged:
        merged["env_kwargs"] = manager.env_kwargs
    return merged, OrderedDict(sorted(merged.items()))


def _require_same(manager: Any, study: optuna.Study, chosen: dict[str, Any]) -> None:
    """
    :param manager: an ``ExperimentManager``
    :param study: with a trial for it
    :param chosen: hyperparameters of the trial
    :raises ValueError: if the trial is of another algorithm or, as far as the study tells, of another environment
    """
    settings = study.user_attrs.get(SETTINGS)
    asked = (manager.algo, manager.env_name.gym_id)
    if settings is not None and (settings["algo"], settings["env"]) != asked:
        raise ValueError(
            f"The study {study.study_name} is of {settings['algo']} on {settings['env']}, not of {' on '.join(asked)}. "
            "For another environment, copy the block that sweep_report writes."
        )
    unknown = sorted(set(chosen) - set(inspect.signature(LWMDQN).parameters))
    if unknown:
        raise ValueError(f"The study {study.study_name} is of another algorithm: {manager.algo} has no {', '.join(unknown)}.")


def of_the_study(settings: dict[str, Any]) -> dict[str, Any]:
    """
    :param settings: of a study that ``sweep`` has begun
    :return: the hyperparameters that its trials start from, as a block for the Zoo
    """
    env_kwargs = {"env_kwargs": settings["env_kwargs"]} if settings["env_kwargs"] else {}
    return {**settings["hyperparams"], **env_kwargs}


def find_trial(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    """
    :param study: of Optuna
    :param number: of a trial
    :return: the trial
    :raises ValueError: if there is none, or it has no parameters yet
    """
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise ValueError(f"The study {study.study_name} has no trial {number}: it has trials 0 to {len(trials) - 1}.")
    if not trials[number].params:
        raise ValueError(
            f"Trial {number} of the study {study.study_name} has no parameters: it is {trials[number].state.name}."
        )
    return trials[number]
