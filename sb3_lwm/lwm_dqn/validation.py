"""Checks of the arguments and environments, which raise errors when the agent is made, not hours later."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_lwm.common.schedules import make_schedule
from sb3_lwm.lwm_dqn.normalization import check_normalization
from sb3_lwm.replay import SequenceReplayBuffer
from sb3_lwm.world_model.normalizer import NORMALIZERS
from sb3_lwm.world_model.objectives import OBJECTIVES


def _is_integer(value: Any, lowest: int) -> bool:
    """Return whether the value is an integer that is large enough, and not a bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= lowest)


def _at_least(lowest: int) -> tuple[str, Callable[[Any], bool]]:
    """Return the rule of an integer argument with a lower bound."""
    return f"an integer >= {lowest}", lambda value: _is_integer(value, lowest)


def _or_none(words: str, is_allowed: Callable[[Any], bool]) -> tuple[str, Callable[[Any], bool]]:
    """Return the rule of an argument that may be left out."""
    return f"{words}, or None", lambda value: value is None or is_allowed(value)


_SWITCH = ("True or False", lambda value: isinstance(value, bool))
_SHARE = ("in [0, 1]", lambda value: 0.0 <= value <= 1.0)
_NOT_NEGATIVE = (">= 0", lambda value: value >= 0.0)
_BOUND = ("> 0, or None for no clipping", lambda value: value is None or value > 0.0)

# The allowed values of each argument: in words, and as a test
RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("double_q", "dueling", "value_rescaling", "prioritized_replay", "use_world_model"), _SWITCH),
    **dict.fromkeys(("intrinsic_reward_input", "step_ahead", "mixed_precision", "compile_networks"), _SWITCH),
    **dict.fromkeys(("burn_in", "learning_starts"), _at_least(0)),
    **dict.fromkeys(("pretraining_updates", "encoder_pretraining_updates"), _or_none(*_at_least(0))),
    "target_update_interval": _or_none(*_at_least(1)),
    **dict.fromkeys(("unroll", "n_steps", "batch_size", "buffer_size", "pretraining_batch_size"), _at_least(1)),
    "pretraining_sequence_length": _at_least(2),
    "encoder_objective": (f"one of {', '.join(OBJECTIVES)}", lambda value: value in OBJECTIVES),
    **dict.fromkeys(("tau", "gamma", "priority_max_weight", "evaluation_eps"), _SHARE),
    **dict.fromkeys(("exploration_initial_eps", "exploration_final_eps"), _SHARE),
    "exploration_eps_base": ("in (0, 1), or None for the schedule", lambda value: value is None or 0.0 < value < 1.0),
    **dict.fromkeys(("priority_exponent", "importance_exponent", "exploration_eps_alpha"), _NOT_NEGATIVE),
    "intrinsic_reward_scale": (
        "a number >= 0, 'lin_<start>' or a schedule",
        lambda value: make_schedule("intrinsic_reward_scale", value) is not None,
    ),
    "intrinsic_reward_normalizer": (f"one of {', '.join(NORMALIZERS)}", lambda value: value in NORMALIZERS),
    "intrinsic_reward_fraction": ("in (0, 1]", lambda value: 0.0 < value <= 1.0),
    **dict.fromkeys(("max_grad_norm", "intrinsic_reward_clip"), _BOUND),
    "intrinsic_reward_momentum": ("in [0, 1)", lambda value: 0.0 <= value < 1.0),
    "world_model_learning_rate": ("> 0", lambda value: value > 0.0),
    "learning_rate": (">= 0, or a schedule", lambda value: callable(value) or value >= 0.0),
    "replay_buffer_class": (
        "SequenceReplayBuffer, PrioritizedSequenceReplayBuffer or a subclass, which store sequences; or leave it out",
        lambda value: value is None or issubclass(value, SequenceReplayBuffer),
    ),
}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """
    Check the arguments of the constructor one by one, then those that depend on each other.

    :param arguments: The values of all arguments in ``RULES``
    :raises ValueError: If a value cannot work; the message names the argument, its value and the allowed values
    """
    for name, (allowed, is_allowed) in RULES.items():
        value = arguments[name]
        try:
            is_valid = bool(is_allowed(value))
        except TypeError:
            is_valid = False
        if not is_valid:
            raise ValueError(f"{name}={value!r}: it must be {allowed}.")
    n_steps, unroll = arguments["n_steps"], arguments["unroll"]
    if n_steps >= unroll:
        raise ValueError(f"n_steps={n_steps} must be smaller than unroll={unroll}: lower n_steps or raise unroll.")


def check_environment(env: VecEnv | None) -> None:
    """
    :param env: The environments; None for a model that is loaded to act
    :raises ValueError: If the agent cannot learn from the environments
    """
    if env is not None and unwrap_vec_normalize(env) is not None:
        check_normalization(env)


def fit_lengths(burn_in: int, unroll: int, n_steps: int, rows: int, rows_needed: Callable[[int, int], int]) -> tuple[int, int]:
    """
    Halve the burn-in and the unroll until a sequence fits into a replay.

    :param burn_in: The number of rows before the learned ones
    :param unroll: The number of learned rows
    :param n_steps: The number of rows after the learned ones
    :param rows: The number of rows that the replay has for each environment
    :param rows_needed: The function from the length of a sequence and its unroll to the number of rows that it needs
    :return: The burn-in and the unroll that fit; 0 and 1 if no values fit
    """
    while rows_needed(burn_in + unroll + n_steps, unroll) > rows and (burn_in, unroll) != (0, 1):
        burn_in, unroll = burn_in // 2, max(unroll // 2, 1)
    return burn_in, unroll


def check_buffer_size(buffer_size: int, n_envs: int, shortest: int, encoder_window: int) -> None:
    """
    :param buffer_size: The number of rows of the replay buffer, all environments together
    :param n_envs: The number of environments
    :param shortest: The number of rows of the shortest sequence from which the agent can learn
    :param encoder_window: The number of rows of the windows from which the encoder of images learns; 0 without such an encoder
    :raises ValueError: If the rows of one environment cannot hold both
    """
    for length, what in ((shortest, "an n-step return"), (encoder_window, "a window of encoder_objective")):
        if buffer_size // n_envs < length:
            raise ValueError(
                f"buffer_size={buffer_size} is {buffer_size // n_envs} rows for each of {n_envs} environments, {what} needs "
                f"{length}: use buffer_size >= {n_envs * length}."
            )
