"""Whatever ends a rollout, the next learn begins with new episodes: no reward is written on the row of another step."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from helpers import SHORT, RandomEnv
from replay_helpers import stored
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lwm import LWMDQN
from sb3_lwm.common.finite_guard import NonFiniteError

SPACE = spaces.Box(-np.inf, np.inf, (1,), np.float64)


class Interrupted(RandomEnv):
    """Observes the number of its step, and is rewarded with it, so that each row shows what belongs to it."""

    failure: BaseException | None = None
    count = 0

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(**kwargs)
        self.count = 100 * self.episodes
        return np.array([float(self.count)]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        *_, terminated, truncated, info = super().step(action)
        if self.failure is not None and self.count % 100 == 3:
            failure, self.failure = self.failure, None
            raise failure
        reward = float(self.count)
        self.count += 1
        return np.array([float(self.count)]), reward, terminated, truncated, info


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SystemExit(143), NonFiniteError("bad"), RuntimeError("broken")])
@pytest.mark.parametrize("n_steps", [10, 80])
def test_rewards_stay_on_their_rows(failure: BaseException, n_steps: int) -> None:
    env = DummyVecEnv([lambda: Interrupted(SPACE)])
    model = LWMDQN("MlpPolicy", env, seed=0, **SHORT).learn(n_steps)
    env.envs[0].failure = failure
    with pytest.raises(type(failure)):
        model.learn(50, reset_num_timesteps=False)
    assert not model.knows_environments()
    model.learn(50, reset_num_timesteps=False)
    buffer = model.replay_buffer
    assert buffer is not None
    rows = int(buffer.written[0])
    seen, finals = stored(buffer, "observations")[:rows, 0, 0], buffer.finals[:rows, 0]
    np.testing.assert_array_equal(buffer.rewards[:rows, 0][~finals], seen[~finals])
    # one more observation in each episode, and a new episode after each final one
    starts = buffer.episode_starts[:rows, 0]
    np.testing.assert_array_equal(np.diff(seen)[~starts[1:]], 1.0)
    np.testing.assert_array_equal(starts[1:], finals[:-1])
    assert (seen[starts] % 100 == 0).all() and len(seen[starts]) > n_steps // 7


def test_interruption_of_the_pretraining() -> None:
    model = LWMDQN("MlpPolicy", DummyVecEnv([lambda: Interrupted(SPACE)]), seed=0, **SHORT)
    assert model.world_model_trainer is not None
    update = model.world_model_trainer.update

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    model.world_model_trainer.update = interrupt  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        model.learn(100)
    model.world_model_trainer.update = update  # type: ignore[method-assign]
    assert model.num_timesteps == 64 and not model.knows_environments()
    model.learn(36, reset_num_timesteps=False)
    assert model.num_timesteps == 100 and model.policy.world_model is not None
    assert int(model.policy.world_model.n_updates) == SHORT["pretraining_updates"] + model._n_updates == 3 + 9


@pytest.mark.parametrize("value", [np.nan, None])
def test_a_reset_that_fails_is_repeated(value: float | None) -> None:
    class Failing(Interrupted):
        is_broken = False

        def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
            observation, info = super().reset(**kwargs)
            if self.is_broken:
                self.is_broken = False
                if value is None:
                    raise KeyboardInterrupt
                return np.array([value]), info
            return observation, info

    env = DummyVecEnv([lambda: Failing(SPACE)])
    model = LWMDQN("MlpPolicy", env, seed=0, **SHORT).learn(10)
    env.envs[0].is_broken = True
    with pytest.raises(KeyboardInterrupt if value is None else NonFiniteError):
        model.learn(10)
    assert not model.knows_environments()
    model.learn(10, reset_num_timesteps=False)
    buffer = model.replay_buffer
    assert buffer is not None and np.isfinite(stored(buffer, "observations")).all()
    rows, finals = int(buffer.written[0]), buffer.finals[: buffer.written[0], 0]
    np.testing.assert_array_equal(buffer.rewards[:rows, 0][~finals], stored(buffer, "observations")[:rows, 0, 0][~finals])


def test_learning_without_an_environment(tmp_path: Any) -> None:
    LWMDQN("MlpPolicy", DummyVecEnv([lambda: Interrupted(SPACE)]), **SHORT).save(tmp_path / "model")
    model = LWMDQN.load(tmp_path / "model")
    assert model.replay_buffer is None
    with pytest.raises(AssertionError, match="set_env"):
        model.learn(10)
    with pytest.raises(ValueError, match="set_env"):
        model.add_episode(np.zeros((2, 1)), np.zeros(1), np.zeros(1))
