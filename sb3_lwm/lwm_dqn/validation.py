"""Values that cannot work are refused when the agent is made, not hours later."""

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from sb3_lwm.common.vec_normalize import VEC_NORMALIZE_REMEDY
from sb3_lwm.replay.observation_storage import check_storage
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer
from sb3_lwm.world_model.objectives import OBJECTIVES

if TYPE_CHECKING:
    from sb3_lwm.lwm_dqn import LWMDQN

SWITCHES = (
    *("double_q", "dueling", "value_rescaling", "prioritized_replay", "use_world_model", "intrinsic_reward_input"),
    *("step_ahead", "mixed_precision", "compile_networks"),
)
# name, what is allowed (in words), and as a test; None passes where it means "off"
RANGES: tuple[tuple[str, str, Any], ...] = (
    ("burn_in", "an integer >= 0", lambda value: _is_integer(value, 0)),
    ("unroll", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("n_steps", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("batch_size", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("buffer_size", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("learning_starts", "an integer >= 0", lambda value: _is_integer(value, 0)),
    ("pretraining_updates", "an integer >= 0", lambda value: _is_integer(value, 0)),
    ("encoder_pretraining_updates", "an integer >= 0", lambda value: _is_integer(value, 0)),
    ("encoder_objective", f"one of {', '.join(OBJECTIVES)}", lambda value: value in OBJECTIVES),
    ("pretraining_batch_size", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("pretraining_sequence_length", "an integer >= 2", lambda value: _is_integer(value, 2)),
    ("tau", "in (0, 1]", lambda value: 0.0 < value <= 1.0),
    ("gamma", "in [0, 1]", lambda value: 0.0 <= value <= 1.0),
    ("priority_exponent", ">= 0", lambda value: value >= 0.0),
    ("importance_exponent", ">= 0", lambda value: value >= 0.0),
    ("priority_max_weight", "in [0, 1]", lambda value: 0.0 <= value <= 1.0),
    ("exploration_initial_eps", "in [0, 1]", lambda value: 0.0 <= value <= 1.0),
    ("exploration_final_eps", "in [0, 1]", lambda value: 0.0 <= value <= 1.0),
    ("exploration_eps_base", "in (0, 1), or None for the schedule", lambda value: value is None or 0.0 < value < 1.0),
    ("exploration_eps_alpha", ">= 0", lambda value: value >= 0.0),
    ("evaluation_eps", "in [0, 1]", lambda value: 0.0 <= value <= 1.0),
    ("max_grad_norm", "> 0, or None for no clipping", lambda value: value is None or value > 0.0),
    ("intrinsic_reward_clip", "> 0, or None for no clipping", lambda value: value is None or value > 0.0),
    ("intrinsic_reward_momentum", "in [0, 1)", lambda value: 0.0 <= value < 1.0),
    ("intrinsic_reward_scale", ">= 0", lambda value: value >= 0.0),
    ("world_model_learning_rate", "> 0", lambda value: value > 0.0),
    ("learning_rate", ">= 0, or a schedule", lambda value: callable(value) or value >= 0.0),
)


def _is_integer(value: Any, lowest: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= lowest)


def check_arguments(model: "LWMDQN") -> None:
    """
    :param model: an agent whose constructor arguments are set
    :raises ValueError: names the argument, its value and what to do
    """
    for name in SWITCHES:
        if not isinstance(getattr(model, name), bool):
            raise ValueError(f"{name}={getattr(model, name)!r}: it is a switch, use True or False.")
    for name, allowed, is_allowed in RANGES:
        value = getattr(model, name)
        try:
            is_valid = bool(is_allowed(value))
        except TypeError:
            is_valid = False
        if not is_valid:
            raise ValueError(f"{name}={value!r}: it must be {allowed}.")
    if model.n_steps >= model.unroll:
        raise ValueError(f"n_steps={model.n_steps} must be smaller than unroll={model.unroll}: lower n_steps or raise unroll.")
    # a model that is loaded to act has no environment, and will have no replay
    check_storage(model.storage_device, model.compression, must_exist=model.env is not None)
    _check_spaces(model)
    _check_lengths(model)


def _check_spaces(model: "LWMDQN") -> None:
    buffer_class = model.replay_buffer_class
    if buffer_class is not None and not issubclass(buffer_class, SequenceReplayBuffer):
        raise ValueError(
            f"replay_buffer_class={buffer_class.__name__} stores no sequences: use SequenceReplayBuffer, "
            "PrioritizedSequenceReplayBuffer or a subclass, or leave it out."
        )
    if model.env is not None and unwrap_vec_normalize(model.env) is not None:
        raise ValueError(VEC_NORMALIZE_REMEDY)
    if isinstance(model.action_space, spaces.Discrete) and model.action_space.start != 0:
        raise ValueError(
            f"The action space {model.action_space} does not start at 0: wrap the environment in "
            "gymnasium.wrappers.TransformAction to shift its actions."
        )


def _check_lengths(model: "LWMDQN") -> None:
    # a model that is loaded without an environment has no number of environments, and will not learn
    n_envs = getattr(model, "n_envs", None)
    if model.env is None or n_envs is None:
        return
    length = model.sequence_length
    parts = f"burn_in + unroll + n_steps = {model.burn_in} + {model.unroll} + {model.n_steps}"
    _check_length(model, n_envs, length, f"a sequence has {length} rows ({parts})")
    if model.policy_arguments()["world_model_kwargs"] is not None and model.pretraining_updates > 0:
        longest = model.pretraining_sequence_length
        _check_length(model, n_envs, longest, f"pretraining_sequence_length={longest}")


def _check_length(model: "LWMDQN", n_envs: int, length: int, what: str) -> None:
    """
    :param model: the agent
    :param n_envs: number of its environments
    :param length: rows that it wants to learn from at once
    :param what: the reason, in words
    """
    needed = n_envs * max(length, model.buffer_class.rows_needed(model.sequence_length, model.unroll))
    if model.buffer_size < needed:
        raise ValueError(
            f"buffer_size={model.buffer_size} is {model.buffer_size // n_envs} rows for each of {n_envs} environments, "
            f"{what}: use buffer_size >= {needed}, or shorter sequences."
        )
    # an agent that goes on learning has no warm-up: it plays by itself until there is enough
    if model.num_timesteps == 0 and model.learning_starts < n_envs * length:
        raise ValueError(
            f"learning_starts={model.learning_starts} is {model.learning_starts // n_envs} steps of each of {n_envs} "
            f"environments, {what}: use learning_starts >= {n_envs * length}, or shorter sequences."
        )
