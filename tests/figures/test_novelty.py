"""Figures of the intrinsic reward along an episode, and its spikes."""

from pathlib import Path

import numpy as np
import pytest
from figure_helpers import FRAMES, REWARDS

from sb3_lwm.figures import draw_novelty, find_spikes, save_figure

pytest.importorskip("matplotlib")


def test_find_spikes() -> None:
    long = np.zeros(400)
    long[[100, 110, 300, 390]] = 3.0, 4.0, 5.0, 2.0
    # 100 is too near to 110, all others are no higher than the mean
    assert find_spikes(long) == [110, 300, 390]
    assert find_spikes(long, n_spikes=2) == [110, 300]
    # a short episode: not next to each other
    assert find_spikes([np.nan, 1.0, 5.0, 4.0, 0.0, 3.0]) == [2, 5]
    assert find_spikes(np.full(20, 0.5)) == find_spikes([np.nan]) == find_spikes([]) == []


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figure_of_novelty(suffix: str, tmp_path: Path) -> None:
    figure = draw_novelty(REWARDS, FRAMES, "A labyrinth", n_spikes=2)
    assert figure.axes[0].get_title() == "A labyrinth"
    spikes = find_spikes(REWARDS, 2)
    assert 9 in spikes
    assert [axes.get_title() for axes in figure.axes[1:]] == [f"{n}: step {spike}" for n, spike in enumerate(spikes, 1)]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), FRAMES[spikes[0]])
    path = tmp_path / "pictures" / f"episode{suffix}"
    save_figure(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    # the same picture is the same file
    content = path.read_bytes()
    save_figure(draw_novelty(REWARDS, FRAMES, "A labyrinth", n_spikes=2), path)
    assert path.read_bytes() == content


def test_figure_of_novelty_without_spikes() -> None:
    assert len(draw_novelty([np.nan, 1.0], np.zeros((2, 84, 84), np.uint8), "").axes) == 1
    with pytest.raises(ValueError, match="14 rewards and 3 frames: give one frame for each reward"):
        draw_novelty(REWARDS, FRAMES[:3], "")
