"""Values that cannot work are refused when the agent is made, with the value and the remedy in the message."""

import re
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, make_random_envs
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_lwm import LWMDQN


def make_model(env: Any = None, policy: str = "MlpPolicy", **kwargs: Any) -> LWMDQN:
    env = make_random_envs(n_envs=2) if env is None else env
    return LWMDQN(policy, env, **{**SHORT, **kwargs})


# --- Arguments: name, value, what else the message must say ---

OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("n_steps", 6, "unroll"),
    ("n_steps", 0, ">= 1"),
    ("n_steps", 1.5, "integer"),
    ("burn_in", -1, ">= 0"),
    ("unroll", 0, ">= 1"),
    ("batch_size", 0, ">= 1"),
    ("batch_size", 4.0, "integer"),
    ("batch_size", float("nan"), "integer"),
    ("buffer_size", "1e5", "integer"),
    ("learning_starts", "60", "integer"),
    ("learning_starts", -1, ""),
    ("tau", -0.1, "[0, 1]"),
    ("tau", 1.5, "[0, 1]"),
    ("tau", float("nan"), "[0, 1]"),
    ("gamma", -0.1, "[0, 1]"),
    ("gamma", 1.01, "[0, 1]"),
    ("gamma", "0.99", "[0, 1]"),
    ("exploration_initial_eps", 1.5, "[0, 1]"),
    ("exploration_final_eps", -0.1, "[0, 1]"),
    ("evaluation_eps", 2.0, "[0, 1]"),
    ("exploration_eps_base", 0.0, "(0, 1)"),
    ("exploration_eps_base", 1.0, "(0, 1)"),
    ("dueling", "maybe", "True or False"),
    ("double_q", "off", "True or False"),
    ("value_rescaling", 1, "True or False"),
    ("prioritized_replay", None, "True or False"),
    ("use_world_model", "no", "True or False"),
    ("intrinsic_reward_momentum", 1.0, "[0, 1)"),
    ("intrinsic_reward_momentum", -0.1, "[0, 1)"),
    ("intrinsic_reward_clip", 0.0, "None"),
    ("intrinsic_reward_clip", -1.0, "None"),
    ("intrinsic_reward_scale", float("nan"), ""),
    ("max_grad_norm", 0.0, "None"),
    ("max_grad_norm", -1.0, "None"),
    ("learning_rate", -1e-4, ">= 0"),
    ("learning_rate", "1e-4", ">= 0"),
    ("world_model_learning_rate", -1e-4, "> 0"),
    ("priority_exponent", -0.1, ">= 0"),
    ("priority_max_weight", 1.1, "[0, 1]"),
    ("pretraining_updates", -1, ">= 0"),
    ("pretraining_batch_size", 0, ">= 1"),
    ("pretraining_sequence_length", 1, ">= 2"),
]


@pytest.mark.parametrize(("name", "value", "remedy"), OUT_OF_RANGE)
def test_argument_out_of_range(name: str, value: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*{re.escape(str(value))}") as error:
        make_model(**{name: value})
    assert remedy in str(error.value)


def test_arguments_at_the_bounds_of_their_ranges() -> None:
    model = make_model(
        n_steps=5,
        burn_in=0,
        batch_size=np.int64(1),
        tau=1.0,
        gamma=1.0,
        exploration_initial_eps=1,
        exploration_final_eps=0.0,
        evaluation_eps=0.0,
        exploration_eps_base=None,
        intrinsic_reward_momentum=0.0,
        intrinsic_reward_clip=None,
        intrinsic_reward_scale=0.0,
        max_grad_norm=None,
        learning_rate=lambda progress: 1e-4 * progress,
        importance_exponent=0.0,
        pretraining_updates=0,
    ).learn(72)
    assert model._n_updates > 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"use_world_model": False},
        {"policy_kwargs": {**NETWORKS, "world_model_kwargs": None}},
        {"pretraining_updates": 0},
    ],
)
def test_windows_need_no_room_without_pretraining(arguments: dict[str, Any]) -> None:
    assert make_model(learning_starts=18, pretraining_sequence_length=100, **arguments).learn(40)._n_updates > 0


# --- Classes and environments ---


def test_replay_buffer_without_sequences() -> None:
    with pytest.raises(ValueError, match=r"replay_buffer_class=<class '.*\.ReplayBuffer'>: it must be SequenceReplayBuffer"):
        make_model(replay_buffer_class=ReplayBuffer)


def test_policy_and_space_must_fit() -> None:
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        make_model(make_random_envs(spaces.Dict({"vector": VECTOR})))
    with pytest.raises(ValueError, match="Policy LstmPolicy unknown"):
        make_model(policy="LstmPolicy")
    with pytest.raises(AssertionError, match="NatureCNN"):
        make_model(policy="CnnPolicy")
