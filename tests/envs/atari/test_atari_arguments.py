"""Which calls AtariVecEnv takes, which it refuses, and which game a name means."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from atari_helpers import make, play, random_actions

from sb3_lwm import AtariVecEnv

NOOP = 0


# --- Actions under way ---


def test_same_actions_may_be_sent_again() -> None:
    once, twice = make(), make()
    once.reset(), twice.reset()
    for action in random_actions(once, 20):
        expected = once.step(action)
        mine = action.copy()
        twice.step_async(mine)
        twice.step_async(action.astype(np.int32))
        mine[:] = 0  # the caller's array stays the caller's
        twice.step_async(action)
        np.testing.assert_array_equal(twice.step_wait()[0], expected[0])
    once.close(), twice.close()


def test_other_actions_may_not() -> None:
    env = make(n_envs=2)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step"):
        env.step(np.zeros(2, dtype=int))
    env.reset()
    with pytest.raises(RuntimeError, match=r"No actions are under way: call step_async\(\) first"):
        env.step_wait()
    env.step_async(np.array([0, 1]))
    with pytest.raises(RuntimeError, match=r"Other actions are under way: call step_wait\(\)"):
        env.step_async(np.array([0, 2]))
    env.step_wait()
    env.step(np.array([0, 2]))
    env.close()


def test_reset_and_close_finish_what_is_under_way() -> None:
    env, fresh = make(ram_envs=1), make()
    env.reset()
    env.step_async(np.array([NOOP]))
    env.seed(0)
    assert play(env, 10) == play(fresh, 10)
    env.step_async(np.array([NOOP]))
    env.close()
    env.close()
    for call in (env.reset, env.step_wait, lambda: env.step(np.array([NOOP])), lambda: env.env_method("get_ram")):
        with pytest.raises(RuntimeError, match="closed: make a new one"):
            call()
    fresh.close()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0], r"shape \(2,\), got int64, shape \(1,\)"),
        ([[0], [0]], r"shape \(2,\), got int64, shape \(2, 1\)"),
        ([0.0, 1.0], "must be integers.*got float64"),
        ([0, 4], "Action 4 of game 1 is out of range: it must be from 0 to 3, NOOP, FIRE, RIGHT, LEFT"),
        ([-1, 0], "Action -1 of game 0 is out of range"),
    ],
)
def test_wrong_actions(actions: Any, message: str) -> None:
    env = make(n_envs=2)
    env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(np.array(actions))
    env.step(np.zeros(2, dtype=int))
    env.close()


# --- Which game ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"game": "MontezumasRevenge-v5"}, "no Atari game 'MontezumasRevenge-v5'.*or 'ALE/MontezumaRevenge-v5'"),
        ({"game": "CartPole-v1"}, "no Atari game 'CartPole-v1'.*Names are written"),
        ({"game": "Breakout-v4"}, r"Breakout-v4 skips a random number of frames, \(2, 5\).*choose NoFrameskip-v4"),
        ({"game": "pong2"}, "Did you mean 'pong'"),
        ({"n_envs": 0}, "n_envs must be an integer of at least 1, got 0"),
        ({"n_envs": 2.0}, "n_envs must be an integer of at least 1, got 2.0"),
        ({"frame_skip": 0}, "frame_skip must be an integer of at least 1, got 0"),
        ({"noop_max": -1}, "noop_max must be an integer of at least 0, got -1"),
        ({"num_threads": True}, "num_threads must be an integer of at least 0, got True"),
        ({"max_episode_steps": 2**29}, "max_episode_steps must be at most 536870911, got 536870912"),
        ({"ram_envs": 2}, "ram_envs must be at most n_envs, 1, got 2"),
        ({"render_mode": "ansi"}, "render_mode must be one of .*'rgb_array'.*got 'ansi'"),
        ({"repeat_action_probability": 1.0}, "repeat_action_probability must be at least 0 and less than 1, got 1.0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_settings_of_a_specification() -> None:
    spec = copy.deepcopy(gym.spec("ALE/Breakout-v5"))
    spec.kwargs.update(full_action_space=True)
    env = AtariVecEnv(spec, 1)
    assert env.action_space.n == 18
    assert env.get_attr("spec") == [spec]
    env.close()
    spec.kwargs.update(difficulty=1)
    with pytest.raises(ValueError, match="difficulty=1 is not supported"):
        AtariVecEnv(spec, 1)


def test_sticky_actions_are_those_of_the_id() -> None:
    runs = {}
    for game, probability in (("breakout", None), ("breakout", 0.25), ("ALE/Breakout-v5", None), ("ALE/Breakout-v5", 0.0)):
        env = make(game, repeat_action_probability=probability)
        runs[game, probability] = play(env, 60)
        env.close()
    assert runs["breakout", None] == runs["ALE/Breakout-v5", 0.0] != runs["breakout", 0.25]
    assert runs["breakout", 0.25] == runs["ALE/Breakout-v5", None]


def test_attributes_and_methods() -> None:
    env = make(n_envs=2)
    assert env.get_attr("render_mode") == [None, None]
    assert env.get_attr("spec", indices=0)[0].id == "BreakoutNoFrameskip-v4"
    assert env.env_method("get_action_meanings", indices=[1]) == [["NOOP", "FIRE", "RIGHT", "LEFT"]]
    assert not env.has_attr("ale")
    with pytest.raises(AttributeError, match="no attribute 'ale'"):
        env.get_attr("ale")
    with pytest.raises(AttributeError, match="'game' of an AtariVecEnv cannot be set: make a new one"):
        env.set_attr("game", "pong")
    with pytest.raises(AttributeError, match="no method 'clone_state', only get_action_meanings, get_ram, render"):
        env.env_method("clone_state")
    env.reset()
    with pytest.raises(ValueError, match="Game 0 has no shadow: make the AtariVecEnv with ram_envs=2 or a render_mode"):
        env.env_method("get_ram")
    env.close()
