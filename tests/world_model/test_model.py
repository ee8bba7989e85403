"""The latent world model: running statistics against NumPy, encoders of every space, predictor, intrinsic reward."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_lwm.world_model import LatentWorldModel, prediction_errors
from sb3_lwm.world_model.encoders import ImageEncoder, LatentEncoder
from sb3_lwm.world_model.normalizer import IntrinsicRewardNormalizer, RunningStandardizer
from sb3_lwm.world_model.predictor import LatentPredictor

IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
SMALL = {"input_size": 4, "gru_hidden_size": 6, "head_size": 5}


# --- Intrinsic reward ---


@pytest.mark.parametrize(("scale", "clip", "momentum"), [(1.0, None, 0.99), (0.3, 1.5, 0.9), (2.0, 0.5, 0.0)])
def test_normalizer_against_numpy(scale: float, clip: float | None, momentum: float) -> None:
    rng = np.random.default_rng(0)
    normalizer = IntrinsicRewardNormalizer(scale, clip, momentum)
    mean = std = None
    for size in (50, 3, 200, 2, 64):
        errors = rng.gamma(2.0, 0.1 * size, size).astype(np.float32)
        # nothing is known of the errors at first: their scale comes from the first batch alone
        mean = errors.mean() if mean is None else momentum * mean + (1.0 - momentum) * errors.mean()
        std = errors.std(ddof=1) if std is None else momentum * std + (1.0 - momentum) * errors.std(ddof=1)
        normalizer.update(th.as_tensor(errors))
        bound = np.inf if clip is None else clip
        others = rng.gamma(2.0, 5.0, (4, 30)).astype(np.float32)
        normalized = (others - mean) / std
        rewards = normalizer(th.as_tensor(others))
        np.testing.assert_allclose(rewards, scale * np.clip(normalized, -bound, bound), rtol=1e-4, atol=1e-5)
        if clip is not None:
            assert np.abs(normalized).max() > clip, "the bound is tried"


def test_no_reward_before_the_first_batch_nor_with_scale_zero() -> None:
    errors = th.tensor([0.0, 0.5, 1e6])
    assert IntrinsicRewardNormalizer()(errors).tolist() == [0.0, 0.0, 0.0]
    switched_off = IntrinsicRewardNormalizer(scale=0.0)
    switched_off.update(errors)
    assert switched_off(errors).tolist() == [0.0, 0.0, 0.0]


def test_equal_errors_have_a_finite_reward() -> None:
    normalizer = IntrinsicRewardNormalizer()
    normalizer.update(th.full((8,), 0.25))
    # no deviation at all: the mean is worth nothing, whatever lies beside it is finite
    assert normalizer(th.tensor(0.25)).item() == 0.0
    assert th.isfinite(normalizer(th.tensor([0.0, 1.0]))).all()


def test_prediction_errors_by_hand() -> None:
    # (1 + 4) / 2, (0 + 9) / 2
    latents, predicted = th.tensor([[[1.0, 2.0], [5.0, 0.0]]]), th.tensor([[[0.0, 0.0], [5.0, 3.0]]])
    assert prediction_errors(latents, predicted).tolist() == [[2.5, 4.5]]


# --- Standardised observations ---


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_standardizer_against_numpy(offset: float) -> None:
    rng = np.random.default_rng(1)
    standardizer = RunningStandardizer(3)
    seen = np.zeros((0, 3))
    for size in (5, 1, 300, 40):
        # every batch of another mean and another spread
        batch = rng.normal(rng.normal(0.0, 2.0, 3) + offset, [0.5, 1.0, 4.0], (size, 3)).astype(np.float32)
        standardizer.update(th.as_tensor(batch))
        seen = np.concatenate((seen, batch))
        np.testing.assert_allclose(standardizer.mean, seen.mean(axis=0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(standardizer.variance, seen.var(axis=0), rtol=1e-3, atol=1e-6)
    assert standardizer.count.item() == 346
    expected = np.clip((seen - seen.mean(axis=0)) / seen.std(axis=0), -10.0, 10.0)
    np.testing.assert_allclose(standardizer(th.as_tensor(seen, dtype=th.float32)), expected, rtol=1e-2, atol=1e-2)


def test_standardizer_bounds_what_it_gives() -> None:
    standardizer = RunningStandardizer(2)
    # before any data observations pass as they are
    assert standardizer(th.tensor([[2.0, -30.0]])).tolist() == [pytest.approx([2.0, -10.0])]
    # the second dimension never changes: it is 0, and no division by 0
    standardizer.update(th.tensor([[-1.0, 7.0], [1.0, 7.0]]))
    assert standardizer(th.tensor([[1.0, 7.0], [-1e6, 8.0]])).tolist() == [pytest.approx([1.0, 0.0]), [-10.0, 10.0]]


# --- Encoders ---

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


def test_discrete_observations_of_the_replay_have_a_column() -> None:
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


# --- Predictor ---


def make_model(space: spaces.Space, **kwargs: Any) -> LatentWorldModel:
    th.manual_seed(0)
    return LatentWorldModel(space, spaces.Discrete(3), **{"predictor_kwargs": SMALL, **kwargs})


@pytest.mark.parametrize("binary", [[True, True, True], [False, True, False], [False, False, False]])
def test_binary_dimensions_are_probabilities(binary: list[bool]) -> None:
    predictor = LatentPredictor(3, 2, th.tensor(binary), **SMALL)
    head = predictor.head[-1]
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    # sigmoid(3) = 0.9526
    nn.init.constant_(head.bias, 3.0)
    resets = th.zeros(5, 2, dtype=th.bool)
    outputs, memory = predictor(th.randn(5, 2, 3), th.zeros(5, 2, dtype=th.int64), th.zeros(2, 6), resets)
    assert memory.shape == (2, 6)
    expected = th.tensor([0.952574 if flag else 3.0 for flag in binary]).expand(5, 2, 3)
    th.testing.assert_close(predictor.expected_latents(outputs), expected, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize(
    "binary, cross_entropy, expected",
    # for an output of 3: -ln(sigmoid(3)) = 0.048587, -ln(1 - sigmoid(3)) = 3.048587, squared errors 0.002249 and 0.907398
    [
        ([True, True], True, (0.048587 + 3.048587) / 2),
        ([True, True], False, (0.002249 + 0.907398) / 2),
        ([True, False], True, (0.048587 + 9.0) / 2),
        ([False, False], True, (4.0 + 9.0) / 2),
    ],
)
def test_losses_by_hand(binary: list[bool], cross_entropy: bool, expected: float) -> None:
    predictor = LatentPredictor(2, 2, th.tensor(binary), **SMALL, cross_entropy=cross_entropy)
    losses = predictor.losses(th.full((3, 2), 3.0), th.tensor([1.0, 0.0]).expand(3, 2))
    th.testing.assert_close(losses, th.full((3,), expected), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("cross_entropy", [True, False])
def test_a_sure_error_is_unlearned_from_the_cross_entropy_only(cross_entropy: bool) -> None:
    predictor = LatentPredictor(1, 2, th.tensor([True]), **SMALL, cross_entropy=cross_entropy)
    outputs = th.tensor([[-20.0]], requires_grad=True)
    predictor.losses(outputs, th.ones(1, 1)).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.item() == pytest.approx(-1.0 if cross_entropy else 0.0, abs=1e-6)


def test_predictor_is_its_layers_step_by_step() -> None:
    th.manual_seed(1)
    predictor = LatentPredictor(3, 2, th.tensor([True, False, False]), **SMALL)
    latents, actions, hidden = th.randn(6, 4, 3), th.randint(2, (6, 4)), th.randn(4, 6)
    resets = th.rand(6, 4) < 0.3
    outputs, memory = predictor(latents, actions, hidden, resets)
    for step in range(6):
        hidden = hidden * ~resets[step].unsqueeze(-1)
        one_hot = th.eye(2)[actions[step]]
        hidden = predictor.memory.cell(th.relu(predictor.embedding[0](th.cat((latents[step], one_hot), dim=-1))), hidden)
        expected = predictor.head(hidden)
        th.testing.assert_close(outputs[step], expected)
    th.testing.assert_close(memory, hidden)


def test_networks_of_the_paper() -> None:
    # LWM, table of networks: labyrinth, Atari
    for space, sizes, activation in (
        (spaces.MultiBinary(4), (32, 128, 128, 4), nn.ReLU),
        (IMAGE, (128, 256, 256, 32), nn.Identity),
    ):
        predictor = make_model(space, predictor_kwargs=None).predictor
        first, last = predictor.embedding[0], predictor.head[-1]
        assert isinstance(predictor.embedding[1], activation)
        assert (first.out_features, predictor.memory.hidden_size, last.in_features, last.out_features) == sizes
        assert first.in_features == sizes[-1] + 3
    # a part of them can be changed
    model = make_model(IMAGE, predictor_kwargs={"gru_hidden_size": 9}, image_latent_size=5)
    assert (model.hidden_size, model.latent_size, model.predictor.embedding[0].out_features) == (9, 5, 128)


# --- World model ---


def test_encoder_gets_no_gradient_from_the_predictor() -> None:
    model = make_model(IMAGE)
    images = th.randint(256, (5, 2, 1, 36, 36), dtype=th.uint8)
    latents = model.encode(images)
    assert latents.shape == (5, 2, 32) and not latents.requires_grad
    resets = th.zeros(4, 2, dtype=th.bool)
    predictions, _ = model.expect(latents[:-1], th.zeros(4, 2, dtype=th.int64), th.zeros(2, model.hidden_size), resets)
    prediction_errors(latents[1:], predictions).mean().backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.predictor.parameters())


def test_encoding_keeps_time_and_environments_apart() -> None:
    model = make_model(SPACES["box"][0])
    observations = th.arange(24.0).reshape(3, 4, 2)
    latents = model.encode(observations)
    for step in range(3):
        assert th.equal(latents[step], model.encoder(observations[step]))


def test_a_reset_is_no_surprise() -> None:
    model = make_model(spaces.MultiBinary(2))
    model.normalizer.update(th.tensor([0.25, 0.75]))
    observations = th.tensor([[1, 0], [1, 0], [0, 1]], dtype=th.int8)
    predicted_latents = th.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    latents, rewards = model.observe(observations, predicted_latents, th.tensor([False, True, False]))
    assert th.equal(latents, observations.float())
    # errors 1/2, -, 0 against a mean of 1/2 and a deviation of sqrt(2 / 16)
    assert rewards.tolist() == pytest.approx([0.0, 0.0, -0.5 / (2 / 16) ** 0.5])
    rewards = model.observe(observations, predicted_latents, th.ones(3, dtype=th.bool))[1]
    assert rewards.tolist() == [0.0, 0.0, 0.0]


def test_all_that_is_learned_is_saved() -> None:
    space = spaces.Dict({"box": SPACES["box"][0], "image": IMAGE})
    model, other = make_model(space), make_model(space)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    model.encoder.update_statistics({"box": th.randn(9, 2), "image": th.zeros(9, 1, 36, 36, dtype=th.uint8)})
    model.normalizer.update(th.rand(9))
    model.n_updates += 3
    other.load_state_dict(model.state_dict())
    observations = {"box": th.randn(4, 2), "image": th.randint(256, (4, 1, 36, 36), dtype=th.uint8)}
    inputs = (observations, th.randn(4, model.latent_size), th.tensor([True, False, False, False]))
    for part, expected in zip(other.observe(*inputs), model.observe(*inputs), strict=True):
        assert th.equal(part, expected)
    assert int(other.n_updates) == 3


def test_normalizer_counts_what_it_is_told_and_can_begin_anew() -> None:
    normalizer = IntrinsicRewardNormalizer(momentum=0.5)
    errors, counted = th.tensor([1.0, 3.0, 100.0]), th.tensor([True, True, False])
    normalizer.update(errors, counted)
    assert (normalizer.mean.item(), normalizer.std.item()) == (2.0, pytest.approx(2**0.5))
    # one error has no deviation, none has no mean
    normalizer.update(errors, th.tensor([False, False, True]))
    normalizer.update(errors, th.tensor([False, False, False]))
    assert normalizer.mean.item() == 2.0
    normalizer.restart()
    assert normalizer(errors).tolist() == [0.0, 0.0, 0.0]
    normalizer.update(th.tensor([10.0, 12.0]))
    assert normalizer.mean.item() == 11.0
