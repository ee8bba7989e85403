"""Environments unlike SB3's own: arrays that are written again, final observations that are missing, odd observations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import SHORT, VECTOR, RandomEnv, changed, weights
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_lwm import LWMDQN, SequenceReplayBuffer
from sb3_lwm.envs import CopyFinalObservation, ReportingSubprocVecEnv

LENGTH = 4


def make_model(env: Any, policy: str = "MlpPolicy", **kwargs: Any) -> LWMDQN:
    return LWMDQN(policy, env, seed=0, **{**SHORT, **kwargs})


class OneArray(gym.Env[np.ndarray, int]):
    """Counts the steps of all episodes, in one array that every observation is written into. An episode has 4 steps."""

    observation_space = spaces.Box(0.0, 1e6, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.array = np.zeros(1, dtype=np.float32)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.array[0] = self.steps = self.steps + 1
        self.left = LENGTH
        return self.array, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.array[0] = self.steps = self.steps + 1
        self.left -= 1
        return self.array, 0.0, False, self.left == 0, {}


class OneArrayDict(gym.ObservationWrapper[Any, Any, Any]):
    """The same array in a dictionary."""

    def __init__(self) -> None:
        super().__init__(OneArray())
        self.observation_space = spaces.Dict({"part": self.env.observation_space})

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        return {"part": observation}


class OneArrayVecEnv(VecEnvWrapper):
    """Returns the same arrays at each step, as vector environments on shared memory may do."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.arrays: Any = None

    def _write(self, observations: Any) -> Any:
        if self.arrays is None:
            self.arrays = observations
        elif isinstance(observations, dict):
            for key, part in observations.items():
                self.arrays[key][:] = part
        else:
            self.arrays[:] = observations
        return self.arrays

    def reset(self) -> VecEnvObs:
        return self._write(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        observations, *others = self.venv.step_wait()
        return self._write(observations), *others  # type: ignore[return-value]


def stored(model: LWMDQN) -> list[list[float]]:
    """Return the numbers in the replay, in their order, of each environment."""
    buffer = model.replay_buffer
    assert isinstance(buffer, SequenceReplayBuffer)
    storage = buffer.observations["part"] if isinstance(buffer.observations, dict) else buffer.observations
    return [storage.array[: buffer.written[env], env, 0].tolist() for env in range(buffer.n_envs)]


MAKERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "environment": ("MlpPolicy", OneArray),
    "environment with a Monitor": ("MlpPolicy", lambda: Monitor(OneArray())),
    "dictionary": ("MultiInputPolicy", OneArrayDict),
    "processes": ("MlpPolicy", lambda: ReportingSubprocVecEnv([OneArray, OneArray])),
    "vector environment": ("MlpPolicy", lambda: OneArrayVecEnv(make_vec_env(OneArray, 2, wrapper_class=CopyFinalObservation))),
    "vector environment of dictionaries": (
        "MultiInputPolicy",
        lambda: OneArrayVecEnv(make_vec_env(OneArrayDict, 2, wrapper_class=CopyFinalObservation)),
    ),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_arrays_that_are_written_again(kind: str) -> None:
    policy, make_env = MAKERS[kind]
    model = make_model(make_env(), policy)
    model.learn(40)
    assert model.env is not None and model.replay_buffer is not None
    model.env.close()
    # every observation once, in its order: resets, steps and final observations
    for numbers in stored(model):
        assert len(numbers) > 40 // model.n_envs and numbers == list(range(1, len(numbers) + 1))
    rows = model.replay_buffer.finals[: model.replay_buffer.written[0], 0]
    assert np.flatnonzero(rows).tolist() == list(range(LENGTH, len(rows), LENGTH + 1))


def test_only_final_observations_are_copied() -> None:
    env = CopyFinalObservation(OneArray())
    env.reset()
    observations = [env.step(0)[0] for _ in range(LENGTH)]
    assert [part is env.unwrapped.array for part in observations] == [True] * (LENGTH - 1) + [False]  # type: ignore[attr-defined]
    env.reset()
    assert observations[-1].tolist() == [LENGTH + 1]


def test_an_environment_whose_reset_takes_a_seed_alone_trains() -> None:
    class OnlySeed(gym.Env):
        observation_space = spaces.Discrete(2)
        action_space = spaces.Discrete(2)

        def reset(self, seed: int | None = None) -> tuple[int, dict[str, Any]]:  # type: ignore[override]
            return 0, {}

        def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
            return 1, 0.0, bool(action), False, {}

    assert LWMDQN("MlpPolicy", OnlySeed(), **SHORT).learn(20).num_timesteps >= 20


def test_state_of_an_environment_that_was_wrapped(tmp_path: Path) -> None:
    model = make_model(gym.make("POL-3x3-v0")).learn(90)
    # a wrapper whose state is not known would be warned of
    path = model.save_training_state(tmp_path)
    assert path is not None
    model.learn(40, reset_num_timesteps=False)
    resumed = LWMDQN.load_training_state(path, gym.make("POL-3x3-v0"))
    resumed.learn(40, reset_num_timesteps=False)
    assert not changed(weights(model.policy), weights(resumed.policy))


# --- Final observations that are missing ---


class Final(VecEnvWrapper):
    """Changes the final observations that the environments give."""

    def __init__(self, venv: VecEnv, change: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(venv)
        self.change = change

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        for env in np.flatnonzero(dones):
            self.change(infos[env])
        return observations, rewards, dones, infos


@pytest.mark.parametrize("in_dict", [False, True])
@pytest.mark.parametrize(
    "change",
    [lambda info: info.pop("terminal_observation"), lambda info: info.update(terminal_observation=None)],
    ids=["missing", "None"],
)
def test_without_final_observations_those_before_them_are_taken(
    change: Callable[[dict[str, Any]], Any], in_dict: bool
) -> None:
    kind = "vector environment of dictionaries" if in_dict else "vector environment"
    policy, make_env = MAKERS[kind]
    model = make_model(Final(make_env(), change), policy)
    with pytest.warns(UserWarning, match="terminal_observation"):
        model.learn(100)
    assert model._n_updates > 0
    # 1, 2, 3, 4 and the final one of the first episode, of which 5 was never seen
    for numbers in stored(model):
        assert numbers[:10] == [1, 2, 3, 4, 4, 6, 7, 8, 9, 9]


# --- Odd observations ---


class AsTuple(gym.ObservationWrapper[Any, Any, Any]):
    """Observations that are tuples of numbers, which NumPy takes for an array."""

    def observation(self, observation: np.ndarray) -> Any:
        return tuple(observation.tolist())


def test_observations_that_are_tuples() -> None:
    env = AsTuple(RandomEnv(VECTOR))
    model = make_model(env).learn(70)
    observation, info = env.reset(seed=3)
    actions, _ = model.predict(observation, deterministic=True)  # type: ignore[arg-type]
    assert actions == model.predict(np.array(observation, np.float32), deterministic=True)[0]
    with pytest.raises(ValueError, match=r"env\.reset\(\)"):
        model.predict((observation, info))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.int64])
def test_bytes_that_are_no_image_may_come_as_other_numbers(dtype: type) -> None:
    model = make_model(DummyVecEnv([lambda: RandomEnv(spaces.Box(0, 255, (3,), np.uint8))]))
    values = np.array([[0, 1, 1], [1, 0, 0]])
    (_, state), (_, expected) = (model.predict(values.astype(kind), deterministic=True) for kind in (dtype, np.uint8))
    np.testing.assert_array_equal(state.hidden, expected.hidden)


def test_images_may_not() -> None:
    model = make_model(DummyVecEnv([lambda: RandomEnv(spaces.Box(0, 255, (7, 7, 3), np.uint8))]), "CnnPolicy")
    with pytest.raises(ValueError, match="uint8"):
        model.predict(np.zeros((3, 7, 7), np.float32))
