"""The convolutions against SB3's NatureCNN."""

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN

from sb3_lwm.common.cnn import CHUNK_SIZE, ImageCNN, in_chunks


def image_networks() -> tuple[ImageCNN, NatureCNN, th.Tensor]:
    """Return this package's CNN and SB3's with the same weights, and more images than a chunk has."""
    space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    ours, theirs = ImageCNN(space, features_dim=8), NatureCNN(space, features_dim=8)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, th.randint(0, 256, (CHUNK_SIZE * 2 + 3, 1, 36, 36), dtype=th.uint8)


def test_image_cnn_is_nature_cnn_on_centred_pixels() -> None:
    ours, theirs, images = image_networks()
    th.testing.assert_close(ours(images / 255), theirs(images.float() / 128 - 1), atol=1e-5, rtol=1e-5)


def test_image_cnn_without_activation_has_negative_features() -> None:
    embedding = ImageCNN(spaces.Box(0, 255, (1, 36, 36), np.uint8), features_dim=64, is_activated=False)
    assert embedding(th.rand(16, 1, 36, 36)).min() < 0


def test_chunks_change_neither_features_nor_gradients() -> None:
    ours, _, images = image_networks()
    pieces = []

    def features(chunk: th.Tensor) -> th.Tensor:
        pieces.append(len(chunk))
        return ours(chunk / 255)

    whole = ours(images / 255)
    chunked = in_chunks(features, images)
    assert pieces == [CHUNK_SIZE, CHUNK_SIZE, 3]
    th.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-5)
    weight = ours.cnn[0].weight
    gradients = [th.autograd.grad(part.square().mean(), weight)[0] for part in (chunked, whole)]
    th.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_mixed_precision_is_close_and_gives_single_precision() -> None:
    ours, _, images = image_networks()
    whole = ours(images / 255)
    ours.mixed_precision = True
    mixed = ours(images / 255)
    assert mixed.dtype == th.float32 and not th.equal(mixed, whole)
    th.testing.assert_close(mixed, whole, atol=0.02, rtol=0.05)
