"""The benchmark of novelty: its predictor is trained and gives intrinsic rewards."""

from types import ModuleType

import numpy as np
import pytest
import torch as th

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.world_model.encoders import ImageEncoder

pytest.importorskip("scipy")


@pytest.fixture
def novelty() -> ModuleType:
    return pytest.importorskip("novelty")


def make_play(n_episodes: int = 2, length: int = 70) -> Play:
    """Return episodes of random frames."""
    rng, n_rows = np.random.default_rng(0), n_episodes * length
    return Play(
        rng.integers(256, size=(n_rows, 84, 84), dtype=np.uint8),
        rng.integers(3, size=n_rows),
        np.zeros((n_rows, 128), np.uint8),
        np.repeat(np.arange(n_episodes), length),
        3,
    )


def test_predictor_and_its_intrinsic_rewards(novelty: ModuleType) -> None:
    play = make_play()
    encoder = ImageEncoder(novelty.IMAGES, novelty.LATENT_SIZE)
    models = [novelty.train_predictor(encoder, play, seed=seed, n_updates=2) for seed in (1, 1, 2)]
    rewards = [novelty.intrinsic_rewards(model, play) for model in models]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(rewards[0])), [0, 70])
    np.testing.assert_array_equal(rewards[0], rewards[1])
    assert not np.array_equal(rewards[0], rewards[2], equal_nan=True)
    np.testing.assert_array_equal(novelty.last_rewards(models[0], play), rewards[0][[69, 139]])
    with th.no_grad():
        first = novelty.embed(models[0], play)
    assert models[0].encoder.encoders["observation"] is encoder and first.shape == (140, novelty.LATENT_SIZE)
