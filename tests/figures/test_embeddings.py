"""A trajectory in embeddings: the layout, the figure, and the pictures of the callback in TensorBoard."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gymnasium import spaces
from helpers import SHORT, VECTOR, make_random_envs
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lwm import LWMDQN, EmbeddingCallback
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


def test_layout_of_a_single_place() -> None:
    np.testing.assert_array_equal(lay_out(np.full((T, 3), 0.7)), np.zeros((T, 2)))


@pytest.mark.parametrize("n_steps", [0, 12, 30])
def test_too_short(n_steps: int) -> None:
    with pytest.raises(ValueError, match=f"trajectory of {n_steps} steps is too short .* perplexity of 30"):
        lay_out(LATENTS[:n_steps])


@pytest.mark.parametrize(("n_layouts", "n_panels", "n_frames"), [(1, 1, 4), (2, 2, 4), (3, 4, 8), (4, 4, 8)])
def test_figure(n_layouts: int, n_panels: int, n_frames: int, tmp_path: Path) -> None:
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


def test_long_paths_have_fewer_numbers() -> None:
    figure = draw_embeddings({"one": np.zeros((1300, 2))}, None, "Way")
    assert [text.get_text() for text in figure.axes[0].texts][:3] == ["0", "30", "60"]


# --- In TensorBoard ---


def learn(space: spaces.Space, folder: Path, callback: EmbeddingCallback | None, formats: tuple[str, ...]) -> LWMDQN:
    policy = "CnnPolicy" if space.shape == (1, 36, 36) else "MlpPolicy"
    model = LWMDQN(policy, make_random_envs(space, n_envs=2), seed=0, **SHORT)
    model.set_logger(configure(str(folder), list(formats)))
    try:
        model.learn(200, callback, log_interval=1)
    finally:
        model.logger.close()
    return model


@pytest.mark.parametrize("space", [VECTOR, IMAGE], ids=["vectors", "images"])
def test_callback_draws_and_disturbs_nothing(space: spaces.Space, tmp_path: Path) -> None:
    learn(space, tmp_path / "with", EmbeddingCallback(every_steps=50, n_rows=31), ("tensorboard", "csv"))
    plain = learn(space, tmp_path / "without", None, ("tensorboard", "csv"))
    logs = [
        pd.read_csv(tmp_path / name / "progress.csv").filter(regex="loss|reward|n_updates") for name in ("with", "without")
    ]
    pd.testing.assert_frame_equal(*logs)
    events = EventAccumulator(str(tmp_path / "with"), size_guidance={"images": 0, "histograms": 0}).Reload()
    # 50 is within the warm-up of 60 steps
    assert [image.step for image in events.Images("embedding/trajectory")] == [64, 104, 152, 200]
    histograms = events.Histograms("embedding/intrinsic_reward")
    assert [histogram.step for histogram in histograms] == [64, 104, 152, 200]
    assert plain.replay_buffer is not None
    starts = plain.replay_buffer.newest_windows(31, 2).episode_starts
    assert histograms[-1].histogram_value.num == int((~starts).sum())


def test_histogram_is_of_the_intrinsic_reward(tmp_path: Path) -> None:
    callback = EmbeddingCallback(every_steps=200, n_rows=40)
    model = learn(VECTOR, tmp_path, callback, ("tensorboard",))
    assert model.replay_buffer is not None
    samples = model.replay_buffer.newest_windows(40, 2)
    assert samples.actions.shape == (40, 2)
    # the newest rows of each environment, the last of them written last
    last = (model.replay_buffer.written - 1) % model.replay_buffer.buffer_size
    np.testing.assert_array_equal(samples.rewards[-1], model.replay_buffer.rewards[last, [0, 1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"every_steps": 0}, "every_steps must be at least 1, got 0"), ({"n_rows": 30}, "of 30 steps is too short")],
)
def test_callback_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingCallback(**arguments)


def test_callback_needs_tensorboard_and_a_world_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the agent a tensorboard_log"):
        learn(VECTOR, tmp_path, EmbeddingCallback(), ("csv",))
    model = LWMDQN("MlpPolicy", make_random_envs(), use_world_model=False, **SHORT)
    with pytest.raises(ValueError, match="no world model"):
        model.learn(10, EmbeddingCallback())


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"pip install 'sb3-lwm\[figures\]'"):
        EmbeddingCallback()
