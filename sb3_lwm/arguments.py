"""Values that cannot work are refused when the agent is made, not hours later."""

from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from sb3_lwm.buffers import VEC_NORMALIZE_REMEDY, SequenceReplayBuffer

if TYPE_CHECKING:
    from sb3_lwm.lwm_dqn import LWMDQN

SWITCHES = ("double_q", "dueling", "value_rescaling", "prioritized_replay", "use_world_model")
# name, what is allowed (in words), and as a test; None passes where it means "off"
RANGES: tuple[tuple[str, str, Any], ...] = (
    ("burn_in", "an integer >= 0", lambda value: _is_integer(value, 0)),
    ("unroll", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("n_steps", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("batch_size", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("buffer_size", "an integer >= 1", lambda value: _is_integer(value, 1)),
    ("pretraining_updates", "an integer >= 0", lambda value: _is_integer(value, 0)),
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
    return not isinstance(value, bool) and int(value) == value and value >= lowest


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
    rows = model.buffer_size // n_envs
    parts = f"burn_in + unroll + n_steps = {model.burn_in} + {model.unroll} + {model.n_steps}"
    if rows < length:
        raise ValueError(
            f"buffer_size={model.buffer_size} is {rows} rows for each of {n_envs} environments, a sequence has {length} "
            f"({parts}): use buffer_size >= {n_envs * length}, or shorter sequences."
        )
    if model.learning_starts < n_envs * length:
        raise ValueError(
            f"learning_starts={model.learning_starts} is {model.learning_starts // n_envs} steps of each of {n_envs} "
            f"environments, a sequence has {length} ({parts}): use learning_starts >= {n_envs * length}, or shorter sequences."
        )
    longest = model.pretraining_sequence_length
    if (
        model.use_world_model
        and model.pretraining_updates > 0
        and min(model.learning_starts, model.buffer_size) < n_envs * longest
    ):
        raise ValueError(
            f"pretraining_sequence_length={longest} is longer than what {n_envs} environments have played after "
            f"learning_starts={model.learning_starts} steps (buffer_size={model.buffer_size}): use "
            f"learning_starts >= {n_envs * longest}, or a shorter pretraining_sequence_length."
        )
