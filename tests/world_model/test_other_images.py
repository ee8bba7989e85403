"""Images that are small, normalised, boards of flags or flattened: one rule for the Q-network and for the world model."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, changed, make_random_envs, weights
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, NatureCNN
from torch import nn

from sb3_lwm import LWMDQN, IntrinsicRewardCallback
from sb3_lwm.common.cnn import GridCNN, ImageCNN
from sb3_lwm.world_model import LatentWorldModel
from sb3_lwm.world_model.actions import ActionEncoder
from sb3_lwm.world_model.encoders import ImageEncoder, LatentEncoder, VectorEncoder
from sb3_lwm.world_model.objectives import WMSEObjective

PIXELS = spaces.Box(0, 255, (1, 36, 36), np.uint8)
SCALED = spaces.Box(-1.0, 1.0, (1, 36, 36))
GRID = spaces.Box(0, 255, (7, 7, 3), np.uint8)
ONE_HOT = spaces.Box(0, 255, (7, 7, 20), np.uint8)
FULL = spaces.Box(0, 255, (5, 5, 3), np.uint8)
BOARD = spaces.Box(0.0, 1.0, (17, 8, 8))
FLAGS = spaces.Box(0, 1, (10, 10, 4), np.bool_)


class OwnCNN(BaseFeaturesExtractor):
    """The convolutions of a user, with an argument of their own."""

    def __init__(self, observation_space: spaces.Box, features_dim: int = 16, channels: int = 4) -> None:
        super().__init__(observation_space, features_dim)
        n_cells = observation_space.shape[1] * observation_space.shape[2]
        self.conv = nn.Conv2d(observation_space.shape[0], channels, kernel_size=3, padding=1)
        self.linear = nn.Linear(channels * n_cells, features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.linear(self.conv(observations).relu().flatten(1))


def make_model(policy: str, space: spaces.Space, world_model_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> LWMDQN:
    world_model_kwargs = {**NETWORKS["world_model_kwargs"], **(world_model_kwargs or {})}
    policy_kwargs = {**NETWORKS, "world_model_kwargs": world_model_kwargs, **kwargs}
    return LWMDQN(policy, make_random_envs(space, 2), seed=0, **{**SHORT, "policy_kwargs": policy_kwargs})


def encoder_of(model: LWMDQN, key: str = "observation") -> ImageEncoder | VectorEncoder:
    assert model.policy.world_model is not None
    return model.policy.world_model.encoder.parts()[key]


# --- One rule ---


def seen_by_convolutions(model: LWMDQN, frames: np.ndarray) -> list[th.Tensor]:
    """Return the inputs of the first convolution of the Q-network and of the world model in a call of ``predict``."""
    encoder, seen = encoder_of(model), []
    assert isinstance(encoder, ImageEncoder)
    for network in (model.q_net.features_extractor, encoder.cnn):
        network.cnn[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.predict(frames)
    return seen


@pytest.mark.parametrize(
    ("space", "normalize_images", "factor", "shift"),
    [
        (PIXELS, True, 1 / 128, -1.0),
        (GRID, True, 1 / 128, -1.0),
        # the environment has scaled them: they stay as they are
        (SCALED, False, 1.0, 0.0),
        (BOARD, False, 1.0, 0.0),
        # as in SB3, where nothing divides these
        (PIXELS, False, 1.0, 0.0),
        (GRID, False, 1.0, 0.0),
    ],
)
def test_scale_of_what_the_convolutions_see(space: spaces.Box, normalize_images: bool, factor: float, shift: float) -> None:
    model = make_model("CnnPolicy", space, normalize_images=normalize_images, features_extractor_kwargs={"features_dim": 8})
    frames = np.stack([model.observation_space.sample() for _ in range(3)])
    seen = seen_by_convolutions(model, frames)
    assert len(seen) == 2
    for images in seen:
        np.testing.assert_allclose(images.detach(), frames * np.float32(factor) + np.float32(shift), atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "space", "normalize_images", "q_network", "encoder"),
    [
        ("CnnPolicy", PIXELS, True, ImageCNN, ImageCNN),
        ("CnnPolicy", PIXELS, False, ImageCNN, ImageCNN),
        ("CnnPolicy", SCALED, False, ImageCNN, ImageCNN),
        ("CnnPolicy", GRID, True, GridCNN, GridCNN),
        ("CnnPolicy", ONE_HOT, True, GridCNN, GridCNN),
        ("CnnPolicy", FULL, False, GridCNN, GridCNN),
        ("CnnPolicy", BOARD, False, GridCNN, GridCNN),
        ("MlpPolicy", GRID, True, FlattenExtractor, VectorEncoder),
        ("MlpPolicy", ONE_HOT, True, FlattenExtractor, VectorEncoder),
        ("MlpPolicy", FULL, False, FlattenExtractor, VectorEncoder),
        ("MlpPolicy", BOARD, True, FlattenExtractor, VectorEncoder),
        ("MlpPolicy", BOARD, False, FlattenExtractor, VectorEncoder),
        ("MlpPolicy", FLAGS, True, FlattenExtractor, VectorEncoder),
    ],
)
def test_world_model_follows_the_features_extractor(
    policy: str, space: spaces.Box, normalize_images: bool, q_network: type, encoder: type
) -> None:
    model = make_model(policy, space, normalize_images=normalize_images)
    assert type(model.q_net.features_extractor) is q_network
    part = encoder_of(model)
    assert type(part.cnn if isinstance(part, ImageEncoder) else part) is encoder
    assert (model.policy.encoder_optimizer is not None) == isinstance(part, ImageEncoder)


@pytest.mark.parametrize("normalize_images", [True, False])
@pytest.mark.parametrize(("space", "network"), [(GRID, GridCNN), (PIXELS, NatureCNN), (SCALED, NatureCNN)])
def test_parts_of_a_dictionary(space: spaces.Box, network: type, normalize_images: bool) -> None:
    kwargs: dict[str, Any] = {"features_extractor_kwargs": {"cnn_output_dim": 8}, "normalize_images": normalize_images}
    model = make_model("MultiInputPolicy", spaces.Dict({"part": space, "vector": VECTOR}), **kwargs)
    is_image = space is not SCALED or not normalize_images
    assert isinstance(model.q_net.features_extractor.extractors["part"], network if is_image else nn.Flatten)
    assert isinstance(encoder_of(model, "part"), ImageEncoder if is_image else VectorEncoder)
    assert isinstance(encoder_of(model, "vector"), VectorEncoder)


def test_numbers_that_are_no_pixels_are_refused_unless_they_are_normalised() -> None:
    with pytest.raises(ValueError, match="normalize_images=False"):
        make_model("CnnPolicy", BOARD)
    with pytest.raises(AssertionError, match="normalize_images=False"):
        make_model("CnnPolicy", SCALED)


def test_large_images_that_are_flattened_come_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"1296 numbers.*CnnPolicy"):
        make_model("MlpPolicy", PIXELS)


@pytest.mark.parametrize(
    ("shape", "is_warned"), [((40, 40, 3), True), ((8, 8, 4), True), ((3, 40, 40), False), ((17, 8, 8), False)]
)
def test_channels_that_seem_to_come_last_come_with_a_warning(shape: tuple[int, ...], is_warned: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_model("CnnPolicy", spaces.Box(0.0, 1.0, shape), normalize_images=False)
    assert any("channels come last" in str(warning.message) for warning in caught) == is_warned


# --- Small images ---


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", "MultiInputPolicy"])
@pytest.mark.parametrize("space", [GRID, ONE_HOT, FULL, spaces.Box(0, 255, (1, 1, 3), np.uint8)], ids=str)
def test_learns_from_small_images(policy: str, space: spaces.Box) -> None:
    observation_space = (
        spaces.Dict({"image": space, "direction": spaces.Discrete(4)}) if policy == "MultiInputPolicy" else space
    )
    model = make_model(policy, observation_space)
    assert model.policy.world_model is not None
    encoder = model.policy.world_model.encoder
    before, q_before = weights(encoder), weights(model.q_net.features_extractor)
    model.learn(90)
    images = {} if policy == "MlpPolicy" else {name for name in before if ".cnn." in name}
    assert changed(before, weights(encoder)) >= set(images)
    assert changed(q_before, weights(model.q_net.features_extractor)) == q_before.keys()
    assert model.predict(model.env.reset())[0].shape == (2,)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 35])
def test_grid_cnn_takes_any_size(size: int) -> None:
    space = spaces.Box(0, 255, (3, size, size + 1), np.uint8)
    assert GridCNN(space, features_dim=6)(th.rand(4, 3, size, size + 1)).shape == (4, 6)


def test_grid_cnn_is_its_layers() -> None:
    network = GridCNN(spaces.Box(0, 255, (3, 7, 7), np.uint8), features_dim=6)
    images = th.rand(4, 3, 7, 7)
    expected = images * 255 / 128 - 1
    for layer, stride in ((0, 1), (2, 2), (4, 2)):
        part = network.cnn[layer]
        expected = nn.functional.conv2d(expected, part.weight, part.bias, stride=stride, padding=1).relu()
    assert expected.shape == (4, 64, 2, 2)
    expected = nn.functional.linear(expected.flatten(1), network.linear[0].weight, network.linear[0].bias).relu()
    th.testing.assert_close(network(images), expected)


def test_embedding_of_small_images_has_no_activation() -> None:
    encoder = ImageEncoder(spaces.Box(0, 255, (3, 7, 7), np.uint8), latent_size=64)
    assert encoder(th.randint(256, (16, 3, 7, 7), dtype=th.uint8)).min() < 0


@pytest.mark.parametrize(("size", "max_shift", "moves"), [(7, None, False), (7, 2, True), (36, None, True), (36, 0, False)])
def test_cells_of_a_grid_are_not_shifted(size: int, max_shift: int | None, moves: bool) -> None:
    objective = WMSEObjective(4, ActionEncoder(spaces.Discrete(2)), batch_size=8, max_shift=max_shift)
    frames = th.randint(256, (1, 8, 1, size, size), dtype=th.uint8).expand(3, -1, -1, -1, -1)
    seen = []

    def encode(images: th.Tensor) -> th.Tensor:
        seen.append(images)
        return th.randn(len(images), 4)

    objective.loss(encode, frames, th.zeros(3, 8, dtype=th.int64))
    assert th.equal(seen[0], th.cat((frames[0], frames[0]))) != moves


# --- Encoders of the user ---


def test_encoder_of_the_user() -> None:
    kwargs = {"encoder_class": OwnCNN, "encoder_kwargs": {"channels": 5}, "image_latent_size": 9}
    model = make_model("CnnPolicy", GRID, kwargs, features_extractor_class=OwnCNN)
    encoder = encoder_of(model)
    assert isinstance(encoder, ImageEncoder) and isinstance(encoder.cnn, OwnCNN)
    assert (encoder.cnn.conv.out_channels, encoder.latent_size) == (5, 9)
    before = weights(encoder)
    model.learn(90)
    assert changed(before, weights(encoder)) == before.keys()


def test_size_of_the_users_encoder_is_its_own() -> None:
    kwargs = {"encoder_class": OwnCNN, "encoder_kwargs": {"features_dim": 11}}
    model = make_model("CnnPolicy", GRID, kwargs)
    assert model.policy.world_model is not None and model.policy.world_model.latent_size == 11
    assert model.learn(70)._n_updates > 0


def test_extractor_of_the_user_has_a_world_model_beside_it() -> None:
    model = make_model("CnnPolicy", GRID, features_extractor_class=OwnCNN)
    encoder = encoder_of(model)
    assert isinstance(encoder, ImageEncoder) and isinstance(encoder.cnn, GridCNN)
    # not pixels: SB3 does not take it for an image either
    assert isinstance(encoder_of(make_model("CnnPolicy", BOARD, features_extractor_class=OwnCNN)), VectorEncoder)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
@pytest.mark.parametrize(("encoder_class", "normalized"), [(OwnCNN, None), (GridCNN, True)])
def test_encoder_that_is_asked_for_overrides_the_rule(policy: str, encoder_class: type, normalized: bool | None) -> None:
    extractor = {"features_extractor_class": OwnCNN} if policy == "CnnPolicy" else {}
    encoder = encoder_of(make_model(policy, BOARD, {"encoder_class": encoder_class}, **extractor))
    assert isinstance(encoder, ImageEncoder) and type(encoder.cnn) is encoder_class
    # not centred as pixels are
    assert getattr(encoder.cnn, "normalized_image", None) is normalized


@pytest.mark.parametrize("kwargs", [{"encoder_class": OwnCNN}, {"encoder_kwargs": {"channels": 3}}])
def test_encoder_without_images_is_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"encoder_class=.*encoder_kwargs=.*Box\(-1\.0, 1\.0, \(3,\)"):
        make_model("MlpPolicy", VECTOR, kwargs)


def test_encoder_of_the_user_is_saved(tmp_path: Any) -> None:
    model = make_model("CnnPolicy", GRID, {"encoder_class": OwnCNN, "encoder_kwargs": {"channels": 5}}).learn(70)
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model")
    assert not changed(weights(model.policy), weights(loaded.policy))


# --- Flags ---


@pytest.mark.parametrize(
    ("space", "is_binary"),
    [
        (FLAGS, True),
        (spaces.Box(0, 1, (2, 3), np.uint8), True),
        (spaces.Box(0, 1, (3,), np.int64), True),
        (spaces.Box(0.0, 1.0, (3,)), False),
        (spaces.Box(0, np.array([1, 2, 1], np.uint8), (3,), np.uint8), False),
        (spaces.Box(-1, 1, (3,), np.int8), False),
    ],
    ids=str,
)
def test_flags_are_predicted_as_probabilities(space: spaces.Box, is_binary: bool) -> None:
    encoder = LatentEncoder(space)
    assert encoder.binary.tolist() == [is_binary] * encoder.latent_size
    observations = th.as_tensor(np.stack([space.sample() for _ in range(5)]))
    encoder.update_statistics(observations)
    assert th.equal(encoder(observations), observations.flatten(1).float()) == is_binary


# --- The bonus of other algorithms ---


@pytest.mark.parametrize(
    ("policy", "space", "policy_kwargs", "encoder"),
    [
        ("MlpPolicy", GRID, {}, VectorEncoder),
        ("MlpPolicy", FLAGS, {}, VectorEncoder),
        ("CnnPolicy", GRID, {"features_extractor_class": OwnCNN}, ImageEncoder),
        ("CnnPolicy", BOARD, {"features_extractor_class": OwnCNN, "normalize_images": False}, ImageEncoder),
        ("CnnPolicy", BOARD, {"features_extractor_class": OwnCNN}, VectorEncoder),
        ("CnnPolicy", SCALED, {"normalize_images": False}, ImageEncoder),
    ],
)
def test_bonus_follows_the_policy(policy: str, space: spaces.Box, policy_kwargs: dict[str, Any], encoder: type) -> None:
    callback = IntrinsicRewardCallback(encoder_updates=1, world_model_kwargs=NETWORKS["world_model_kwargs"])
    env = make_random_envs(space, 2)
    PPO(policy, env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=policy_kwargs, device="cpu").learn(32, callback)
    assert callback.trainer is not None
    assert isinstance(callback.trainer.world_model.encoder.parts()["observation"], encoder)
    assert (int(callback.trainer.world_model.n_encoder_updates) > 0) == (encoder is ImageEncoder)


def test_bonus_with_an_encoder_of_the_user() -> None:
    kwargs = {**NETWORKS["world_model_kwargs"], "encoder_class": OwnCNN}
    callback = IntrinsicRewardCallback(encoder_updates=1, world_model_kwargs=kwargs)
    PPO("MlpPolicy", make_random_envs(GRID, 2), n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(32, callback)
    assert callback.trainer is not None
    encoder = callback.trainer.world_model.encoder.parts()["observation"]
    assert isinstance(encoder, ImageEncoder) and isinstance(encoder.cnn, OwnCNN)


def test_world_model_by_itself_knows_images_by_their_space() -> None:
    arguments = (spaces.Discrete(2), 1.0, None, 0.99, "w-mse")
    assert LatentWorldModel(PIXELS, *arguments).encoder.image_keys == ["observation"]
    assert LatentWorldModel(SCALED, *arguments, normalize_images=False).encoder.image_keys == ["observation"]
    assert LatentWorldModel(PIXELS, *arguments, flatten_images=True).encoder.image_keys == []
