"""Actions that are sent to the environments before an update: the same games, and all steps are stored."""

from typing import Any

import numpy as np
import pytest
from atari_helpers import SHORT_ATARI
from helpers import changed, make_labyrinths, weights
from replay_helpers import stored

from sb3_lwm import LWMDQN, AtariVecEnv


def make_model(**kwargs: Any) -> LWMDQN:
    env = AtariVecEnv("montezuma_revenge", 2, seed=0, max_episode_steps=30)
    return LWMDQN("CnnPolicy", env, seed=0, **{**SHORT_ATARI, **kwargs})


def rows(model: LWMDQN) -> list[Any]:
    buffer = model.replay_buffer
    assert buffer is not None
    return [stored(buffer, "observations"), buffer.actions, buffer.rewards, buffer.episode_starts, buffer.finals]


def test_same_games_without_updates() -> None:
    models = [make_model(step_ahead=step_ahead, learning_starts=120).learn(120) for step_ahead in (False, True)]
    for expected, ahead in zip(*map(rows, models), strict=True):
        np.testing.assert_array_equal(expected, ahead)


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_stored_actions_are_those_of_the_games(prioritized_replay: bool) -> None:
    model = make_model(step_ahead=True, prioritized_replay=prioritized_replay)
    played: list[np.ndarray] = []
    assert isinstance(model.env, AtariVecEnv)
    step_wait = model.env.step_wait

    def wait() -> Any:
        assert model.env._chosen is not None  # type: ignore[union-attr]
        played.append(model.env._chosen.copy())  # type: ignore[union-attr]
        return step_wait()

    model.env.step_wait = wait  # type: ignore[method-assign]
    before = weights(model.policy)
    model.learn(100)
    assert changed(before, weights(model.policy)) and model._n_updates > 10
    assert model._sent_actions is None and model.env._chosen is None and len(played) == 50
    buffer = model.replay_buffer
    assert buffer is not None and buffer.written.max() < buffer.buffer_size
    for env in range(2):
        kept = buffer.actions[: buffer.written[env], env][~buffer.finals[: buffer.written[env], env]]
        assert kept.tolist() == [int(actions[env]) for actions in played]


def test_learning_continues_or_restarts() -> None:
    model = make_model(step_ahead=True).learn(60)
    model.learn(20, reset_num_timesteps=False)
    assert model.num_timesteps == 80
    model.learn(40)
    assert model.num_timesteps == 40


def test_learning_continues_after_a_callback_stopped_it() -> None:
    model = make_model(step_ahead=True)
    model.learn(100, callback=lambda variables, _: variables["self"].num_timesteps < 50)
    assert model.num_timesteps == 50
    model.learn(50, reset_num_timesteps=False)
    # whole rollouts of 4 steps
    assert model.num_timesteps == 102


def test_same_seed_same_agent_with_step_ahead() -> None:
    first, second = (make_model(step_ahead=True).learn(80) for _ in range(2))
    assert changed(weights(first.policy), weights(second.policy)) == set()


def test_environments_other_than_atari_vec_env_are_refused() -> None:
    model = LWMDQN("MlpPolicy", make_labyrinths(), step_ahead=True)
    with pytest.raises(ValueError, match=r"step_ahead=True needs an AtariVecEnv, not .*use step_ahead=False"):
        model.learn(10)
