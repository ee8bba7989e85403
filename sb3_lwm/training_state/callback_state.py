"""The counters of callbacks in a training state."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
)

from sb3_lwm.training_state.environments import GET, SET, UnknownStateError, environment_state, set_environment_state

# The counters of SB3's callbacks beside their numbers of calls and steps
COUNTERS: dict[type[BaseCallback], tuple[str, ...]] = {
    EvalCallback: (
        *("best_mean_reward", "last_mean_reward", "_is_success_buffer"),
        *("evaluations_results", "evaluations_timesteps", "evaluations_length", "evaluations_successes"),
    ),
    EveryNTimesteps: ("last_time_trigger",),
    StopTrainingOnMaxEpisodes: ("n_episodes",),
    StopTrainingOnNoModelImprovement: ("last_best_mean_reward", "no_improvement_evals"),
}


def all_callbacks(callback: BaseCallback) -> Iterator[BaseCallback]:
    """
    :param callback: The callback of a training
    :return: The callback and all callbacks inside it
    """
    yield callback
    children = callback.callbacks if isinstance(callback, CallbackList) else [getattr(callback, "callback", None)]
    if isinstance(callback, EvalCallback):
        children = [*children, callback.callback_on_new_best]
    for child in children:
        if isinstance(child, BaseCallback):
            yield from all_callbacks(child)


def callbacks_state(callback: BaseCallback) -> list[dict[str, Any]]:
    """
    :param callback: The callback of a training, with all callbacks inside it
    :return: The counters of each callback
    """
    # a CallbackList counts nothing of its own, and a resumed training may have more or fewer of them
    return [_state(part) for part in all_callbacks(callback) if not isinstance(part, CallbackList)]


def _state(callback: BaseCallback) -> dict[str, Any]:
    names = ("n_calls", "num_timesteps", *_counters(callback))
    state: dict[str, Any] = {"class": type(callback).__qualname__}
    state["counters"] = {name: copy.deepcopy(getattr(callback, name)) for name in names}
    if hasattr(callback, GET):
        state["own"] = getattr(callback, GET)()
    if isinstance(callback, EvalCallback):
        try:
            state["environments"] = environment_state(callback.eval_env)
        except UnknownStateError:
            # not needed: each evaluation resets its environments
            state["environments"] = None
    return state


def _counters(callback: BaseCallback) -> tuple[str, ...]:
    return tuple(name for known, names in COUNTERS.items() if isinstance(callback, known) for name in names)


def set_callbacks_state(callback: BaseCallback, states: list[dict[str, Any]]) -> None:
    """
    Restore the counters of each callback from the saved callback of the same class and place. A callback without one starts
    at zero, with a warning.

    :param callback: The callback of the resumed training
    :param states: The result of :func:`callbacks_state`
    """
    left = list(states)
    for part in all_callbacks(callback):
        if isinstance(part, CallbackList):
            continue
        state = next((state for state in left if state["class"] == type(part).__qualname__), None)
        if state is None:
            warnings.warn(f"The training state has no {type(part).__qualname__}: its counters start at zero.", stacklevel=2)
            continue
        left.remove(state)
        vars(part).update(state["counters"])
        if "own" in state and hasattr(part, SET):
            getattr(part, SET)(state["own"])
        if isinstance(part, EvalCallback) and state["environments"] is not None:
            set_environment_state(part.eval_env, state["environments"])
