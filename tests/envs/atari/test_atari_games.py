"""The game that a name means, and the arguments that AtariVecEnv refuses."""

import copy
from typing import Any

import gymnasium as gym
import pytest
from atari_helpers import make, play

from sb3_lwm import AtariVecEnv


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
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_settings_of_a_gymnasium_specification() -> None:
    spec = copy.deepcopy(gym.spec("ALE/Breakout-v5"))
    spec.kwargs.update(full_action_space=True)
    env = AtariVecEnv(spec, 1)
    assert env.action_space.n == 18
    assert env.get_attr("spec") == [spec]
    env.close()
    spec.kwargs.update(difficulty=1)
    with pytest.raises(ValueError, match="difficulty=1 is not supported"):
        AtariVecEnv(spec, 1)


def test_game_name_decides_on_sticky_actions() -> None:
    runs = {}
    for game, probability in (("breakout", None), ("breakout", 0.25), ("ALE/Breakout-v5", None), ("ALE/Breakout-v5", 0.0)):
        env = make(game, repeat_action_probability=probability)
        runs[game, probability] = play(env, 60)
        env.close()
    assert runs["breakout", None] == runs["ALE/Breakout-v5", 0.0] != runs["breakout", 0.25]
    assert runs["breakout", 0.25] == runs["ALE/Breakout-v5", None]
