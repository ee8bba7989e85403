"""A trajectory in embeddings: its layout and its figure."""

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from sb3_lwm.figures import save_figure
from sb3_lwm.figures.embeddings import draw_embeddings, lay_out

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
T = 41
LATENTS = np.random.default_rng(0).normal(size=(T, 3)).cumsum(axis=0)
FRAMES = np.zeros((T, 8, 8), dtype=np.uint8)


def test_layout_is_reproducible() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = lay_out(LATENTS, seed=3)
    assert first.shape == (T, 2) and np.isfinite(first).all()
    np.testing.assert_array_equal(lay_out(LATENTS, seed=3), first)
    # all dimensions count the same, a constant one not at all
    scaled = np.column_stack((LATENTS * [1.0, 1000.0, 0.001], np.ones(T)))
    distances = [np.linalg.norm(np.diff(points, axis=0), axis=1) for points in (first, lay_out(scaled, seed=3))]
    np.testing.assert_allclose(*distances, rtol=0.1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_layout_keeps_neighbours() -> None:
    # two rooms far from each other
    latents = np.concatenate((LATENTS * 0.01, LATENTS * 0.01 + 10.0))
    points = lay_out(latents)
    to_own, to_other = (np.linalg.norm(points[:T, None] - points[None, part], axis=-1) for part in (slice(T), slice(T, 2 * T)))
    assert to_own.max() < to_other.min()


def test_layout_of_equal_embeddings() -> None:
    np.testing.assert_array_equal(lay_out(np.full((T, 3), 0.7)), np.zeros((T, 2)))


@pytest.mark.parametrize("n_steps", [0, 12, 30])
def test_too_short_trajectories_are_refused(n_steps: int) -> None:
    with pytest.raises(ValueError, match=f"trajectory of {n_steps} steps is too short .* perplexity of 30"):
        lay_out(LATENTS[:n_steps])


@pytest.mark.parametrize(("n_layouts", "n_panels", "n_frames"), [(1, 1, 4), (2, 2, 4), (3, 4, 8), (4, 4, 8)])
def test_figure_of_embeddings(n_layouts: int, n_panels: int, n_frames: int, tmp_path: Path) -> None:
    layouts = {f"encoder {number}": LATENTS[:, :2] for number in range(n_layouts)}
    figure = draw_embeddings(layouts, FRAMES, "Way")
    panels = [axes for axes in figure.axes if axes.get_title().startswith("encoder")]
    assert len(panels) == n_layouts and len(figure.axes) == n_panels + 1 + n_frames
    # every tenth step has its number, where the step is
    assert [text.get_text() for text in panels[0].texts] == ["0", "10", "20", "30", "40"]
    np.testing.assert_allclose([text.xy for text in panels[0].texts], LATENTS[::10, :2])
    titles = [axes.get_title() for axes in figure.axes[-n_frames:]]
    assert titles[0] == "0" and titles[-1] == "40" and all(title.isdigit() for title in titles)
    for suffix in (".png", ".svg"):
        save_figure(figure, tmp_path / f"way{suffix}")
        assert (tmp_path / f"way{suffix}").stat().st_size > 1000


def test_long_trajectories_have_fewer_numbers() -> None:
    figure = draw_embeddings({"one": np.zeros((1300, 2))}, None, "Way")
    assert [text.get_text() for text in figure.axes[0].texts][:3] == ["0", "30", "60"]
