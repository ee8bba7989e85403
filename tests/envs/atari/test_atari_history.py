"""States of Atari games, which are restored by playing the same actions again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atari_helpers import make, random_actions

from sb3_lwm import AtariVecEnv

GAMES: dict[str, dict[str, Any]] = {
    "frostbite": {"terminal_on_life_loss": True, "max_episode_steps": 50},
    "montezuma_revenge": {"ram_envs": 2, "max_episode_steps": 60},
}


def make_game(game: str, **kwargs: Any) -> AtariVecEnv:
    return make(game, 3, num_threads=1, **{**GAMES[game], **kwargs})


def follow(env: AtariVecEnv, actions: np.ndarray) -> list[Any]:
    """Play the actions, and return all results except for the time."""
    seen = []
    for action in actions:
        observations, rewards, dones, infos = env.step(action)
        for info in infos:
            info.get("episode", {}).pop("t", None)
        seen += [observations, rewards, dones, *infos]
    return seen


@pytest.mark.parametrize(("game", "under_way"), [("frostbite", True), ("montezuma_revenge", False)])
def test_restored_games_continue(game: str, under_way: bool) -> None:
    env = make_game(game, seed=3)
    actions = random_actions(env, 110)
    env.reset()
    follow(env, actions[:70])
    if under_way:
        env.step_async(actions[70])
    state = env.get_training_state()
    other = make_game(game, seed=99)
    other.set_training_state(state)
    np.testing.assert_equal(follow(other, actions[70:]), follow(env, actions[70:]))
    # and the games after a reset by hand
    np.testing.assert_array_equal(other.reset(), env.reset())


def test_state_before_the_first_game() -> None:
    env = make_game("frostbite")
    assert env.get_training_state() is None
    env.set_training_state(None)
    assert env.reset().shape == (3, 1, 84, 84)


def test_sticky_actions_have_no_state() -> None:
    env = make_game("frostbite", repeat_action_probability=0.25)
    env.reset()
    with pytest.raises(NotImplementedError, match="sticky actions"):
        env.get_training_state()


def test_state_that_does_not_match_the_games_is_refused() -> None:
    env = make_game("frostbite")
    env.reset()
    follow(env, random_actions(env, 30))
    state = env.get_training_state()
    assert state is not None
    state["history"]["lives"] = state["history"]["lives"] + 1
    with pytest.raises(RuntimeError, match="The replay of the training state's games differs"):
        make_game("frostbite").set_training_state(state)


def test_records_continue_at_the_state(tmp_path: Path) -> None:
    env = make_game("frostbite", monitor_dir=tmp_path)
    actions = random_actions(env, 160)
    env.reset()
    follow(env, actions[:80])
    state = env.get_training_state()
    follow(env, actions[80:])
    env.close()

    def records() -> list[list[str]]:
        files = [(tmp_path / f"{game}.monitor.csv").read_text() for game in range(3)]
        return [[line.rpartition(",")[0] for line in text.splitlines()[1:]] for text in files]

    expected = records()
    assert min(map(len, expected)) >= 3
    other = make_game("frostbite", monitor_dir=tmp_path, override_existing=False)
    other.set_training_state(state)
    assert records() != expected
    follow(other, actions[80:])
    other.close()
    assert records() == expected
