"""Discrete values that do not start at 0, keys of any name and order, and spaces that cannot be learned from."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import SHORT, VECTOR, RandomEnv, changed, weights
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.common.observations import module_names, preprocess

GRID = spaces.Box(0, 255, (7, 7, 3), np.uint8)
START = 5


class ActionsFrom(gym.ActionWrapper[Any, Any, Any]):
    """The same environment with actions from ``start`` on; others end the test."""

    def __init__(self, env: gym.Env[Any, Any], start: int = START) -> None:
        super().__init__(env)
        assert isinstance(env.action_space, spaces.Discrete)
        self.action_space = spaces.Discrete(env.action_space.n, start=start)

    def action(self, action: Any) -> Any:
        assert self.action_space.contains(np.int64(action)), action
        return action - self.action_space.start


def make_envs(observation_space: spaces.Space = VECTOR, start: int | None = None, n_envs: int = 2) -> DummyVecEnv:
    kwargs: dict[str, Any] = {} if start is None else {"wrapper_class": ActionsFrom, "wrapper_kwargs": {"start": start}}
    return make_vec_env(RandomEnv, n_envs, seed=0, env_kwargs={"observation_space": observation_space}, **kwargs)


def make_model(env: Any, policy: str = "MlpPolicy", **kwargs: Any) -> LWMDQN:
    return LWMDQN(policy, env, seed=0, **{**SHORT, **kwargs})


# --- Observations ---


def test_values_are_counted_from_the_start() -> None:
    discrete = preprocess(th.tensor([3, 5]), spaces.Discrete(3, start=3))
    assert isinstance(discrete, th.Tensor) and discrete.tolist() == [[1, 0, 0], [0, 0, 1]]
    several = preprocess(th.tensor([[-1, 6], [1, 5]]), spaces.MultiDiscrete([3, 2], start=[-1, 5]))
    assert isinstance(several, th.Tensor) and several.tolist() == [[1, 0, 0, 0, 1], [0, 0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("space", "from_zero"),
    [
        (spaces.Discrete(4, start=3), spaces.Discrete(4)),
        (spaces.Discrete(4, start=-2), spaces.Discrete(4)),
        (spaces.MultiDiscrete([3, 2], start=[-1, 5]), spaces.MultiDiscrete([3, 2])),
    ],
    ids=str,
)
@pytest.mark.parametrize("in_dict", [False, True])
def test_learns_what_it_learns_from_values_that_start_at_zero(
    space: spaces.Space, from_zero: spaces.Space, in_dict: bool
) -> None:
    policy = "MultiInputPolicy" if in_dict else "MlpPolicy"
    models = []
    for part in (space, from_zero):
        whole = spaces.Dict({"part": part, "vector": VECTOR}) if in_dict else part
        models.append(make_model(make_envs(whole), policy).learn(90))
    assert models[0]._n_updates > 0
    assert not changed(*(weights(model.policy) for model in models))


@pytest.mark.parametrize("in_dict", [False, True])
def test_more_dimensions_are_refused(in_dict: bool) -> None:
    space: spaces.Space = spaces.MultiDiscrete([[2, 3], [4, 5]])
    with pytest.raises(ValueError, match=r"MultiDiscrete of shape \(2, 2\).*flatten"):
        make_model(make_envs(spaces.Dict({"a": space}) if in_dict else space), "MultiInputPolicy" if in_dict else "MlpPolicy")


@pytest.mark.parametrize("in_dict", [False, True])
def test_no_values_are_refused(in_dict: bool) -> None:
    space: spaces.Space = spaces.Box(0.0, 1.0, (0,))
    space = spaces.Dict({"nothing": space, "vector": VECTOR}) if in_dict else space
    with pytest.raises(ValueError, match="without values: remove it"):
        make_model(make_envs(space), "MultiInputPolicy" if in_dict else "MlpPolicy")


# --- Actions ---


def test_learns_what_it_learns_with_actions_that_start_at_zero() -> None:
    shifted, plain = (make_model(make_envs(start=start)).learn(150) for start in (START, None))
    assert shifted._n_updates > 0
    assert not changed(weights(shifted.policy), weights(plain.policy))
    observations = np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3)
    (ours, state), (theirs, other_state) = (model.predict(observations, deterministic=True) for model in (shifted, plain))
    np.testing.assert_array_equal(ours, theirs + START)
    np.testing.assert_array_equal(state.last_actions, other_state.last_actions)
    # one observation, and random actions
    assert shifted.predict(observations[0], deterministic=True)[0] == ours[0]
    shifted.policy.evaluation_eps = 1.0
    assert set(shifted.predict(np.repeat(observations, 20, axis=0))[0].tolist()) == {START, START + 1, START + 2}


def test_first_answer_of_the_policy_has_actions_of_the_space() -> None:
    model = make_model(make_envs(start=START))
    actions, _ = model.predict(np.zeros((4, 3), np.float32), deterministic=True)
    assert model.policy._predict(th.zeros(4, 3)).tolist() == actions.tolist()


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_environments_get_actions_of_their_space_wherever_they_are_played(prioritized_replay: bool, tmp_path: Path) -> None:
    # ActionsFrom refuses other actions
    own = ActionsFrom(RandomEnv(VECTOR))
    model = make_model(own, prioritized_replay=prioritized_replay)
    model.learn(80, callback=EvalCallback(ActionsFrom(RandomEnv(VECTOR)), eval_freq=40, n_eval_episodes=2, warn=False))
    evaluate_policy(model, ActionsFrom(RandomEnv(VECTOR)), 3, warn=False)
    evaluate_policy(model, model.get_env(), 3, warn=False)  # type: ignore[arg-type]
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model", env=ActionsFrom(RandomEnv(VECTOR)))
    assert loaded.action_space == spaces.Discrete(3, start=START)
    evaluate_policy(loaded, loaded.get_env(), 3, deterministic=False, warn=False)  # type: ignore[arg-type]
    assert loaded.learn(80)._n_updates > model._n_updates


@pytest.mark.filterwarnings("ignore:.*(cannot give its state|no state of the environments)")
def test_resumed_training_sends_actions_of_the_space(tmp_path: Path) -> None:
    # ActionsFrom refuses other actions
    model = make_model(make_envs(start=START)).learn(90, callback=TrainingStateCallback(tmp_path, every_steps=40))
    resumed = LWMDQN.load_training_state(tmp_path, make_envs(start=START))
    resumed.learn(40, reset_num_timesteps=False)
    assert resumed.num_timesteps > model.num_timesteps


# --- Dictionaries ---


def test_names_of_modules() -> None:
    assert module_names(["image", "room"]) == {"image": "image", "room": "room"}
    keys = ["a.b", "a_b", "type", "training", "forward", "", "type_"]
    names = module_names(keys)
    assert list(names) == keys and len(set(names.values())) == len(keys)
    assert names["a_b"] == "a_b" and names["type_"] == "type_"
    modules = th.nn.ModuleDict()
    for name in names.values():
        modules[name] = th.nn.Identity()


@pytest.mark.filterwarnings("ignore:.*(cannot give its state|no state of the environments)")
def test_keys_of_any_name(tmp_path: Path) -> None:
    space = spaces.Dict({"a.b": VECTOR, "a_b": VECTOR, "type": GRID, "training": spaces.Discrete(2), "": VECTOR})
    model = make_model(make_envs(space), "MultiInputPolicy")
    model.learn(90, callback=TrainingStateCallback(tmp_path / "states", every_steps=40))
    assert model._n_updates > 0 and model.policy.encoder_optimizer is not None
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model")
    assert not changed(weights(model.policy), weights(loaded.policy))
    resumed = LWMDQN.load_training_state(tmp_path / "states", make_envs(space))
    assert resumed.learn(20, reset_num_timesteps=False)._n_updates > model._n_updates


class ReversedKeys(gym.ObservationWrapper[Any, Any, Any]):
    """Dictionaries whose keys come in the reverse of the space's order, with one more than the space has."""

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {"extra": np.zeros(7), **dict(reversed(observation.items()))}


def test_order_of_the_keys_and_more_keys_than_the_space_has() -> None:
    space = spaces.Dict([("z", VECTOR), ("a", spaces.Discrete(3)), ("m", GRID)])
    models = []
    for wrapper in (None, ReversedKeys):
        env = make_vec_env(RandomEnv, 2, seed=0, env_kwargs={"observation_space": space}, wrapper_class=wrapper)
        models.append(make_model(env, "MultiInputPolicy").learn(90))
    assert not changed(*(weights(model.policy) for model in models))
    observation = models[0].observation_space.sample()
    other = {"extra": np.zeros(7), **dict(reversed(observation.items()))}
    (_, state), (_, other_state) = (models[0].predict(part, deterministic=True) for part in (observation, other))
    np.testing.assert_array_equal(state.hidden, other_state.hidden)
