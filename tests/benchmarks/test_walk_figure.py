"""The picture of a walk through a labyrinth."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from matplotlib.colors import to_hex


def test_picture_of_a_walk(tmp_path: Path) -> None:
    walk_figure = pytest.importorskip("walk_figure")
    env = gym.make("POL-v0", size=2).unwrapped
    env.reset(seed=0)
    # there and back, and a move into a wall
    row, column = env.position
    action = int(np.flatnonzero(env.passages[row, column])[0])
    wall = int(np.flatnonzero(~env.passages[row, column])[0])
    path = [env.position]
    for move in (action, (action + 2) % 4, wall):
        env.step(move)
        path.append(env.position)
    np.testing.assert_array_equal(walk_figure.first_visits(np.array(path)), [True, True, False, False])
    walk = {"env": "POL-v0", "passages": env.passages.tolist(), "path": path, "intrinsic_rewards": [None, 2.0, -0.5, -0.25]}
    labyrinth, rewards = walk_figure.draw_walk(walk).axes[:2]
    walls, ways = labyrinth.collections
    # 4 cells with 4 sides, 3 passages with two ends each; the move into the wall leaves no line
    assert len(walls.get_segments()) == 16 - 6 and len(ways.get_segments()) == 2
    # there and back lie beside each other, each aside of the cells' middles
    (there, back) = ways.get_segments()
    np.testing.assert_allclose((there + back[::-1]) / 2, np.array(path[:2])[:, ::-1])
    assert not np.allclose(there, back[::-1])
    assert [label.get_text() for label in labyrinth.texts] == ["0", "1"]
    bars = {bar.get_x() + bar.get_width() / 2: (bar.get_height(), to_hex(bar.get_facecolor())) for bar in rewards.patches}
    new, old = to_hex(walk_figure.NEW), to_hex(walk_figure.OLD)
    assert bars == {1.0: (2.0, new), 2.0: (-0.5, old), 3.0: (-0.25, old)}
    assert [text.get_text() for text in rewards.get_legend().get_texts()] == ["a new cell", "a cell seen before"]
