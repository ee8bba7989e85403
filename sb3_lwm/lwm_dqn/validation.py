"""Values that cannot work are refused when the agent is made, not hours later."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_lwm.replay import SequenceReplayBuffer
from sb3_lwm.world_model.objectives import OBJECTIVES


def _is_integer(value: Any, lowest: int) -> bool:
    """Return whether the value is an integer that is large enough, and not a bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= lowest)


def _at_least(lowest: int) -> tuple[str, Callable[[Any], bool]]:
    """Return the rule of an integer."""
    return f"an integer >= {lowest}", lambda value: _is_integer(value, lowest)


_SWITCH = ("True or False", lambda value: isinstance(value, bool))
_SHARE = ("in [0, 1]", lambda value: 0.0 <= value <= 1.0)
_NOT_NEGATIVE = (">= 0", lambda value: value >= 0.0)
_BOUND = ("> 0, or None for no clipping", lambda value: value is None or value > 0.0)

# What each argument must be: in words, and as a test
RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("double_q", "dueling", "value_rescaling", "prioritized_replay", "use_world_model"), _SWITCH),
    **dict.fromkeys(("intrinsic_reward_input", "step_ahead", "mixed_precision", "compile_networks"), _SWITCH),
    **dict.fromkeys(("burn_in", "learning_starts", "pretraining_updates", "encoder_pretraining_updates"), _at_least(0)),
    **dict.fromkeys(("unroll", "n_steps", "batch_size", "buffer_size", "pretraining_batch_size"), _at_least(1)),
    "pretraining_sequence_length": _at_least(2),
    "encoder_objective": (f"one of {', '.join(OBJECTIVES)}", lambda value: value in OBJECTIVES),
    "tau": ("in (0, 1]", lambda value: 0.0 < value <= 1.0),
    **dict.fromkeys(("gamma", "priority_max_weight", "evaluation_eps"), _SHARE),
    **dict.fromkeys(("exploration_initial_eps", "exploration_final_eps"), _SHARE),
    "exploration_eps_base": ("in (0, 1), or None for the schedule", lambda value: value is None or 0.0 < value < 1.0),
    **dict.fromkeys(("priority_exponent", "importance_exponent", "exploration_eps_alpha"), _NOT_NEGATIVE),
    "intrinsic_reward_scale": _NOT_NEGATIVE,
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
    :raises ValueError: If a value cannot work; names the argument, its value and what is allowed
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
        raise ValueError(
            "VecNormalize changes its statistics while old observations and rewards wait in the replay, which sequences with "
            "a memory cannot follow. Remove it (in the Zoo: drop `normalize` from the hyperparameters): the world model "
            "standardises what it sees by itself, and gymnasium.wrappers.TransformObservation or TransformReward scale by "
            "constants."
        )


def check_length(what: str, length: int, n_envs: int, buffer_size: int, rows_needed: int, learning_starts: int | None) -> None:
    """
    Check that the replay can hold a window, and that the warm-up collects one.

    :param what: The description of the window
    :param length: The number of its rows
    :param n_envs: The number of environments
    :param buffer_size: The number of rows of the replay buffer, all environments together
    :param rows_needed: The number of rows that the buffer needs for each environment in any case
    :param learning_starts: The number of steps of the warm-up; None for an agent that has had one
    :raises ValueError: If one of the two is too short
    """
    needed = n_envs * max(length, rows_needed)
    if buffer_size < needed:
        raise ValueError(
            f"buffer_size={buffer_size} is {buffer_size // n_envs} rows for each of {n_envs} environments, "
            f"{what}: use buffer_size >= {needed}, or shorter sequences."
        )
    if learning_starts is not None and learning_starts < n_envs * length:
        raise ValueError(
            f"learning_starts={learning_starts} is {learning_starts // n_envs} steps of each of {n_envs} "
            f"environments, {what}: use learning_starts >= {n_envs * length}, or shorter sequences."
        )
