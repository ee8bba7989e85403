"""What cannot work is refused before it costs hours, with the value and the remedy in the message."""

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, RandomEnv, make_random_envs
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

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


def test_arguments_at_the_ends_of_their_ranges() -> None:
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
def test_pretraining_that_does_not_happen_needs_no_windows(arguments: dict[str, Any]) -> None:
    assert make_model(learning_starts=18, pretraining_sequence_length=100, **arguments).learn(40)._n_updates > 0


# --- Classes and environments ---


def test_replay_buffer_without_sequences() -> None:
    with pytest.raises(ValueError, match=r"replay_buffer_class=ReplayBuffer .*SequenceReplayBuffer"):
        make_model(replay_buffer_class=ReplayBuffer)


def test_spaces_that_do_not_start_at_zero() -> None:
    env = DummyVecEnv([lambda: RandomEnv(VECTOR, spaces.Discrete(3, start=1))])
    with pytest.raises(ValueError, match=r"Discrete\(3, start=1\).*TransformAction"):
        make_model(env)


def test_policy_and_space_must_fit() -> None:
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        make_model(make_random_envs(spaces.Dict({"vector": VECTOR})))
    with pytest.raises(ValueError, match="Policy LstmPolicy unknown"):
        make_model(policy="LstmPolicy")
    with pytest.raises(AssertionError, match="NatureCNN"):
        make_model(policy="CnnPolicy")


def test_images_too_small_for_the_world_model() -> None:
    # MiniGrid's frames are 7x7; torch would only speak of the size of a kernel
    env = make_random_envs(spaces.Box(0, 255, (7, 7, 3), np.uint8))
    with pytest.raises(ValueError, match=r"7.*36"):
        make_model(env)
    assert make_model(env, use_world_model=False).policy.world_model is None


# --- Values that are not finite, while it runs ---


class FaultyEnv(gym.Wrapper[Any, Any, Any, Any]):
    """The observation, the reward or a part of a dictionary breaks at a step; step 0 is the reset."""

    def __init__(self, env: gym.Env[Any, Any], part: str, step: int, value: float) -> None:
        super().__init__(env)
        self.part, self.faulty_step, self.value, self.steps = part, step, value, 0

    def _broken(self, observation: Any) -> Any:
        if self.steps != self.faulty_step:
            return observation
        if isinstance(observation, dict):
            return {**observation, self.part: np.full_like(observation[self.part], self.value)}
        if self.part == "reward":
            return observation
        return np.where(np.arange(len(observation)) == 1, np.float32(self.value), observation)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(**kwargs)
        return self._broken(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.part == "reward" and self.steps == self.faulty_step and not isinstance(observation, dict):
            reward = self.value
        return self._broken(observation), reward, terminated, truncated, info


def make_faulty(part: str, step: int, value: float, space: spaces.Space = VECTOR) -> DummyVecEnv:
    """:return: three environments, the second of which breaks"""
    return DummyVecEnv(
        [lambda index=index: FaultyEnv(RandomEnv(space), part, step if index == 1 else -1, value) for index in range(3)]
    )


# in the warm-up, on the last step of an episode (what the VecEnv resets away), and while learning
@pytest.mark.parametrize("step", [3, RandomEnv.EPISODE_LENGTH, 30])
@pytest.mark.parametrize("part", ["observation", "reward"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(part: str, step: int, value: float) -> None:
    model = make_model(make_faulty(part, step, value))
    with pytest.raises(ValueError, match=rf"{part} of environment 1 is not finite.*{value}"):
        model.learn(150)
    assert model.num_timesteps == 3 * step
    assert all(th.isfinite(tensor).all() for tensor in model.policy.state_dict().values())


@pytest.mark.parametrize("reset_num_timesteps", [True, False])
def test_first_observation_is_not_finite(reset_num_timesteps: bool) -> None:
    model = make_model(make_faulty("observation", 0, float("nan")))
    with pytest.raises(ValueError, match=r"observation of environment 1 is not finite.*nan"):
        model.learn(150, reset_num_timesteps=reset_num_timesteps)
    assert model.num_timesteps == 0


@pytest.mark.parametrize("key", ["vector", "reward", "observation"])
def test_part_of_a_dictionary_is_not_finite(key: str) -> None:
    # a part of the observation may have any name
    space = spaces.Dict({key: VECTOR, "room": spaces.Discrete(2)})
    model = make_model(make_faulty(key, 4, float("nan"), space), "MultiInputPolicy")
    with pytest.raises(ValueError, match=rf"{key}.* of environment 1 is not finite"):
        model.learn(150)


def test_rewards_too_large_for_the_loss() -> None:
    # finite each, but not their square; only ValueError and AssertionError prune a trial of Optuna's
    model = make_model(make_faulty("reward", 10, 1e30), value_rescaling=False, use_world_model=False)
    with pytest.raises(ValueError, match=r"loss.*learning_rate"):
        model.learn(600)


# --- predict ---


def test_state_of_another_number_of_environments() -> None:
    model, observations = make_model(), np.zeros((3, 3), dtype=np.float32)
    _, state = model.predict(observations)
    with pytest.raises(ValueError, match=r"3 environments.*2.*state=None"):
        model.predict(observations[:2], state)
    with pytest.raises(ValueError, match=r"3 environments.*1.*state=None"):
        model.predict(observations[0], state)


def test_episode_start_of_another_number_of_environments() -> None:
    model, observations = make_model(), np.zeros((3, 3), dtype=np.float32)
    _, state = model.predict(observations)
    with pytest.raises(ValueError, match=r"episode_start.*2.*3"):
        model.predict(observations, state, np.zeros(2, dtype=bool))


def test_observation_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"Unexpected observation shape \(4,\)"):
        make_model().predict(np.zeros(4, dtype=np.float32))


def test_what_reset_returns_is_no_observation() -> None:
    # Gymnasium's reset returns an observation and a dictionary
    with pytest.raises(ValueError, match=r"tuple.*predict|predict.*tuple"):
        make_model().predict(RandomEnv(VECTOR).reset())  # type: ignore[arg-type]
