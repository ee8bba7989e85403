"""Pictures of the labyrinth as text and as pixels."""

import gymnasium as gym
import numpy as np
import pytest
from labyrinth_helpers import DOWN, HAND_MADE_TEXT, LEFT, RIGHT, make_hand_made_env

from sb3_lwm.envs import PartiallyObservableLabyrinthEnv


def test_ansi_shows_walls_agent_and_visited_cells():
    env = make_hand_made_env((0, 1), render_mode="ansi")
    text = HAND_MADE_TEXT.split("\n")
    text[1] = "|     @     |"
    assert env.render() == "\n".join([*text, "visited 1 of 9 cells"])
    env.step(RIGHT)
    env.step(DOWN)
    text[1], text[3] = "|     .   . |", "|   |     @ |"
    assert env.render() == "\n".join([*text, "visited 3 of 9 cells"])


def test_human_prints_once_at_reset_and_at_each_step(capsys):
    env = gym.make("POL-4x4-v0", render_mode="human")
    env.reset(seed=0)
    texts = [capsys.readouterr().out]
    assert env.render() is None
    assert capsys.readouterr().out == ""
    for action in range(4):
        env.step(action)
        texts.append(capsys.readouterr().out)
        assert texts[-1].count("@") == 1 and "visited" in texts[-1]
    assert len(set(texts)) > 1
    same = PartiallyObservableLabyrinthEnv(4, render_mode="ansi")
    same.reset(seed=0)
    assert texts[0] == same.render() + "\n"


def test_nothing_is_printed_without_human(capsys):
    env = PartiallyObservableLabyrinthEnv(3, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(0)
    env.render()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("size", [2, 3, 6])
def test_rgb_array_shape_and_walls(size):
    env = PartiallyObservableLabyrinthEnv(size, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    side = 64 * size + 16
    assert picture.shape == (side, side, 3) and picture.dtype == np.uint8
    ink = picture[8, 8]
    for row in range(size):
        for column in range(size):
            y, x = 8 + 64 * row + 32, 8 + 64 * column + 32
            edge_pixels = [picture[y, x - 32], picture[y + 32, x], picture[y, x + 32], picture[y - 32, x]]
            is_open = [bool((pixel != ink).any()) for pixel in edge_pixels]
            assert is_open == env.passages[row, column].tolist()


def test_rgb_array_follows_the_agent():
    env = make_hand_made_env((0, 0), render_mode="rgb_array")
    before = env.render()
    np.testing.assert_array_equal(before, env.render())
    env.step(LEFT)
    np.testing.assert_array_equal(before, env.render())
    env.step(RIGHT)
    after = env.render()
    centres = [(40, 40), (40, 104)]
    assert after[centres[1]].tolist() == before[centres[0]].tolist()
    assert after[centres[0]].tolist() != before[centres[0]].tolist()
    # The cell that was left stays light, unlike one that was never visited.
    assert after[centres[0]].tolist() != after[104, 40].tolist()
    assert (after != before).any(axis=(1, 2)).nonzero()[0].max() < 72


def test_render_without_a_mode_warns():
    env = PartiallyObservableLabyrinthEnv()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
