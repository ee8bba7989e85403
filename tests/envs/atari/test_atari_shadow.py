"""Shadows play the same games as the environments, and show their RAM and colours."""

from pathlib import Path

import ale_py
import cv2
import numpy as np
import pytest
from atari_helpers import make, random_actions
from stable_baselines3.common.monitor import load_results

FIRE = 1


@pytest.mark.parametrize("game", ["ALE/MontezumaRevenge-v5", "BreakoutNoFrameskip-v4", "ALE/Qbert-v5", "venture"])
def test_shadow_plays_the_same_game(game: str) -> None:
    env = make(game, ram_envs=1, frame_skip=1, max_episode_steps=150)
    games = 0
    for seed in (None, 7, None):
        if seed is not None:
            env.seed(seed)
        observations = env.reset()
        for action in random_actions(env, 200):
            # one frame a step: nothing lies between a picture of the shadow and the observation
            grey = env._shadows.of(0).grey_picture
            np.testing.assert_array_equal(observations[0, 0], cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA))
            observations, _, _, infos = env.step(action)
            games += "episode" in infos[0]
    assert games >= 3
    env.close()


def test_shadow_that_plays_another_game_is_an_error() -> None:
    env = make(ram_envs=1)
    env.reset()
    env._shadows.of(0)._ale.act(ale_py.Action.NOOP)
    with pytest.raises(RuntimeError, match=r"shadow of game 0 plays another game.*omit ram_envs"):
        env.step(np.array([0]))
    env.close()


def test_ram_and_rooms(tmp_path: Path) -> None:
    env = make("PrivateEyeNoFrameskip-v4", n_envs=2, ram_envs=1, max_episode_steps=100, monitor_dir=tmp_path)
    with pytest.raises(RuntimeError, match=r"no game yet: call reset\(\) first"):
        env.env_method("get_ram", indices=1)
    env.reset()
    right = env.env_method("get_action_meanings")[0].index("RIGHT")
    rooms = set()
    for _ in range(100):
        (ram,) = env.env_method("get_ram", indices=1)
        assert ram.shape == (128,) and ram.dtype == np.uint8
        rooms.add(ram[92])
        _, _, _, infos = env.step(np.full(2, right))
    assert len(rooms) >= 3
    # the room of the last step is that of the record only: the RAM is the next game's already
    assert infos[1]["episode"]["rooms"] - len(rooms) in (0, 1)
    assert "rooms" not in infos[0]["episode"]
    env.close()
    assert load_results(str(tmp_path)).rooms.dropna().tolist() == [infos[1]["episode"]["rooms"]]


def test_pictures_of_the_games() -> None:
    env = make(n_envs=2, render_mode="rgb_array")
    assert env.metadata == {"render_modes": ["human", "rgb_array"], "render_fps": 15}
    env.reset()
    pictures = env.get_images()
    assert [picture.shape for picture in pictures] == [(210, 160, 3)] * 2
    tiles = env.render()
    assert tiles is not None
    np.testing.assert_array_equal(tiles[:210, :160], pictures[0])
    env.step(np.full(2, FIRE))
    assert not np.array_equal(env.get_images()[0], pictures[0])
    env.close()


@pytest.mark.parametrize(("render_mode", "has_window"), [("human", True), ("rgb_array", False)])
def test_window_of_the_human_render_mode(render_mode: str, has_window: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    env = make(render_mode=render_mode)
    env.reset()
    console = env._shadows.of(0)._ale
    assert [console.getBool(name) for name in ("display_screen", "sound")] == [has_window] * 2
    pictures = env.get_images()
    for _ in range(10):
        env.step(np.array([FIRE]))
    env.render(render_mode)
    # the window shows the console's own screen, which changes
    assert not np.array_equal(env.get_images()[0], pictures[0])
    env.close()
