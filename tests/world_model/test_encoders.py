"""Encoders of every observation space."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from world_model_helpers import IMAGE

from sb3_lwm.world_model.encoders import ImageEncoder, LatentEncoder

# space, (N, ...) observations, their latents; None: those of a network
SPACES: dict[str, tuple[spaces.Space, Any, Any, list[bool]]] = {
    "discrete": (spaces.Discrete(4), [2, 0], [[0, 0, 1, 0], [1, 0, 0, 0]], [True] * 4),
    "multi_discrete": (spaces.MultiDiscrete([3, 2]), [[2, 0], [0, 1]], [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1]], [True] * 5),
    "multi_binary": (spaces.MultiBinary(3), [[1, 0, 1], [0, 0, 1]], [[1, 0, 1], [0, 0, 1]], [True] * 3),
    "multi_binary_2d": (spaces.MultiBinary((2, 2)), [[[1, 0], [0, 1]]] * 2, [[1, 0, 0, 1]] * 2, [True] * 4),
    # mean 2, deviation 1; mean 30, deviation 10
    "box": (spaces.Box(-np.inf, np.inf, (2,)), [[1.0, 40.0], [3.0, 20.0]], [[-1, 1], [1, -1]], [False] * 2),
    "box_2d": (spaces.Box(-1.0, 9.0, (1, 2), np.float64), [[[1.0, 4.0]], [[3.0, 2.0]]], [[-1, 1], [1, -1]], [False] * 2),
    # bytes that are no image
    "bytes": (spaces.Box(0, 255, (2,), np.uint8), [[1, 40], [3, 20]], [[-1, 1], [1, -1]], [False] * 2),
    "image": (IMAGE, np.ones((2, 1, 36, 36)), None, [False] * 7),
}


def as_observations(space: spaces.Space, values: Any) -> th.Tensor:
    return th.as_tensor(np.asarray(values, dtype=space.dtype))


@pytest.mark.parametrize("name", SPACES)
def test_encoder_of_every_space(name: str) -> None:
    space, values, expected, binary = SPACES[name]
    encoder = LatentEncoder(space, image_latent_size=7)
    observations = as_observations(space, values)
    encoder.update_statistics(observations)
    latents = encoder(observations)
    assert (latents.shape, latents.dtype) == ((2, encoder.latent_size), th.float32)
    assert encoder.binary.tolist() == binary and bool(encoder.image_keys) == (name == "image")
    if expected is not None:
        np.testing.assert_allclose(latents, expected, atol=1e-6)


def test_encoder_of_a_dictionary_is_its_parts_side_by_side() -> None:
    parts = {name: SPACES[name] for name in ("multi_binary", "box", "image", "discrete")}
    space = spaces.Dict({name: part[0] for name, part in parts.items()})
    encoder = LatentEncoder(space, image_latent_size=7)
    # in an order of their own
    observations = {name: as_observations(*part[:2]) for name, part in reversed(parts.items())}
    encoder.update_statistics(observations)
    latents = dict(zip(space, encoder(observations).split([len(parts[name][3]) for name in space], dim=-1), strict=True))
    assert encoder.binary.tolist() == [flag for name in space for flag in parts[name][3]] and encoder.image_keys == ["image"]
    for name in ("multi_binary", "box", "discrete"):
        np.testing.assert_allclose(latents[name].detach(), parts[name][2], atol=1e-6)
    assert th.equal(latents["image"], encoder.encoders["image"](observations["image"]))


def test_discrete_observations_may_have_a_column() -> None:
    encoder = LatentEncoder(spaces.Discrete(4))
    assert th.equal(encoder(th.tensor([[2], [0]])), encoder(th.tensor([2, 0])))


def test_embedding_of_images_has_no_activation() -> None:
    th.manual_seed(0)
    encoder = ImageEncoder(IMAGE, latent_size=32)
    images = th.randint(256, (16, 1, 36, 36), dtype=th.uint8)
    latents = encoder(images)
    th.testing.assert_close(
        latents, encoder.cnn.linear[0](encoder.cnn.cnn(images.float() / 128.0 - 1.0)), atol=1e-5, rtol=1e-4
    )
    assert (latents < 0.0).any() and (latents > 0.0).any()
