"""What cannot work is refused when the agent is made or loaded, and the message names the cause."""

import io
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, RandomEnv, make_random_envs
from stable_baselines3.common.callbacks import CallbackList, ProgressBarCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lwm import LWMDQN


class OneEnv(DummyVecEnv):
    """A vector environment of spaces that SB3's own refuse to store."""

    def __init__(self, space: spaces.Space) -> None:
        super().__init__([lambda: RandomEnv(VECTOR)])
        self.observation_space = space


SPACES: list[tuple[str, spaces.Space, str]] = [
    ("MlpPolicy", spaces.Tuple([VECTOR, VECTOR]), r"The observation space is Tuple.*FlattenObservation"),
    ("MlpPolicy", spaces.Text(5), r"The observation space is Text.*FlattenObservation"),
    ("MlpPolicy", spaces.Sequence(VECTOR), "The observation space is Sequence"),
    ("MlpPolicy", spaces.Box(-1.0, 1.0, ()), r"Box\(-1.0, 1.0, \(\), float32\).*must have at least one axis"),
    ("MlpPolicy", spaces.Box(-1.0, 1.0, (0,)), "without values: remove it"),
    ("MultiInputPolicy", spaces.Dict({}), "empty Dict"),
    ("MultiInputPolicy", spaces.Dict({"a": VECTOR, "b": spaces.Dict({"c": VECTOR})}), "Nested observation"),
    ("MultiInputPolicy", spaces.Dict({"a": spaces.Text(5)}), r"The part 'a' .* is Text"),
    ("MultiInputPolicy", spaces.Dict({"a": VECTOR, "b": spaces.Box(0.0, 1.0, ())}), r"The part 'b' .* one axis"),
]


@pytest.mark.parametrize(("policy", "space", "message"), SPACES, ids=[str(space) for _, space, _ in SPACES])
def test_observations_that_cannot_be_stored(policy: str, space: spaces.Space, message: str) -> None:
    # nested spaces are refused by Stable-Baselines3 itself
    with pytest.raises((ValueError, NotImplementedError), match=message):
        LWMDQN(policy, OneEnv(space))


def test_the_remedy_is_one() -> None:
    for space in (spaces.Tuple([VECTOR, spaces.Discrete(3)]), spaces.Box(-1.0, 1.0, ())):
        model = LWMDQN("MlpPolicy", gym.wrappers.FlattenObservation(RandomEnv(space)), **SHORT)
        assert model.learn(64)._n_updates == 1


@pytest.mark.parametrize(
    ("saved", "given"),
    [
        ({}, {"use_world_model": False}),
        ({"use_world_model": False}, {"use_world_model": True}),
        ({}, {"dueling": False}),
        ({}, {"intrinsic_reward_input": False}),
        ({}, {"encoder_objective": "cpc"}),
    ],
)
def test_arguments_of_load_that_would_change_the_networks(
    saved: dict[str, Any], given: dict[str, Any], tmp_path: Path
) -> None:
    file = io.BytesIO()
    LWMDQN("MlpPolicy", make_random_envs(), **{**SHORT, **saved}).save(file)
    ((name, value),) = given.items()
    file.seek(0)
    with pytest.raises(ValueError, match=rf"{name}={value!r}: .* holds the networks of an agent with {name}="):
        LWMDQN.load(file, **given)
    file.seek(0)
    # those that are as before change nothing
    assert LWMDQN.load(
        file, **{name: saved.get(name, True)} if name != "encoder_objective" else {"encoder_objective": "w-mse"}
    )


@pytest.mark.parametrize("net_arch", [{"pi": [8]}, {"qf": [8], "vf": [8]}, ["8"]])
def test_net_arch_of_other_algorithms(net_arch: Any) -> None:
    with pytest.raises(ValueError, match=r"net_arch=.*must be a list of layer sizes"):
        LWMDQN("MlpPolicy", make_random_envs(), **{**SHORT, "policy_kwargs": {**NETWORKS, "net_arch": net_arch}})


@pytest.mark.parametrize(
    ("given", "progress_bar"),
    [
        ({}, False),
        ({"progress_bar": True}, True),
        # as the Zoo does
        ({"callback": [ProgressBarCallback()]}, True),
        ({"callback": CallbackList([ProgressBarCallback()])}, True),
    ],
)
@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_one_progress_bar_at_a_time(
    given: dict[str, Any], progress_bar: bool, verbose: int, capsys: pytest.CaptureFixture[str]
) -> None:
    LWMDQN("MlpPolicy", make_random_envs(), seed=0, **{**SHORT, "verbose": verbose}).learn(80, **given)
    output, errors = capsys.readouterr()
    # the line of results says where the time went
    assert ("Pretraining the world model: loss" in output) == (verbose == 1)
    assert ("Pretraining" in errors) == (verbose == 1 and not progress_bar)
