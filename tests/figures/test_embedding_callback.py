"""The pictures and histograms of EmbeddingCallback in TensorBoard."""

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

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)


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
def test_callback_draws_without_changing_the_training(space: spaces.Space, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"every_steps": 0}, "every_steps must be at least 1, got 0"), ({"n_rows": 30}, "of 30 steps is too short")],
)
def test_bad_arguments_of_the_callback_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingCallback(**arguments)


def test_callback_needs_tensorboard_and_a_world_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the agent a tensorboard_log"):
        learn(VECTOR, tmp_path, EmbeddingCallback(), ("csv",))
    model = LWMDQN("MlpPolicy", make_random_envs(), use_world_model=False, **SHORT)
    with pytest.raises(ValueError, match="no world model"):
        model.learn(10, EmbeddingCallback())


def test_missing_package_of_the_callback_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"pip install 'sb3-lwm\[figures\]'"):
        EmbeddingCallback()
