"""The latent world model: its networks, prediction errors and intrinsic rewards."""

import pytest
import torch as th
from gymnasium import spaces
from torch import nn
from world_model_helpers import IMAGE, make_world_model

from sb3_lwm.world_model import prediction_errors

REAL = spaces.Box(-float("inf"), float("inf"), (2,))


def test_prediction_errors_by_hand() -> None:
    # (1 + 4) / 2, (0 + 9) / 2
    latents, predicted = th.tensor([[[1.0, 2.0], [5.0, 0.0]]]), th.tensor([[[0.0, 0.0], [5.0, 3.0]]])
    assert prediction_errors(latents, predicted).tolist() == [[2.5, 4.5]]


def test_networks_of_the_paper() -> None:
    # LWM, table of networks: labyrinth, Atari
    for space, sizes, activation in (
        (spaces.MultiBinary(4), (32, 128, 128, 4), nn.ReLU),
        (IMAGE, (128, 256, 256, 32), nn.Identity),
    ):
        predictor = make_world_model(space, predictor_kwargs=None).predictor
        first, last = predictor.embedding[0], predictor.head[-1]
        assert isinstance(predictor.embedding[1], activation)
        assert (first.out_features, predictor.memory.hidden_size, last.in_features, last.out_features) == sizes
        assert first.in_features == sizes[-1] + 3
    # a part of them can be changed
    model = make_world_model(IMAGE, predictor_kwargs={"gru_hidden_size": 9}, image_latent_size=5)
    assert (model.hidden_size, model.latent_size, model.predictor.embedding[0].out_features) == (9, 5, 128)


def test_encoder_gets_no_gradient_from_the_predictor() -> None:
    model = make_world_model(IMAGE)
    images = th.randint(256, (5, 2, 1, 36, 36), dtype=th.uint8)
    latents = model.encode(images)
    assert latents.shape == (5, 2, 32) and not latents.requires_grad
    resets = th.zeros(4, 2, dtype=th.bool)
    predictions, _ = model.expect(latents[:-1], th.zeros(4, 2, dtype=th.int64), th.zeros(2, model.hidden_size), resets)
    prediction_errors(latents[1:], predictions).mean().backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.predictor.parameters())


def test_encoding_keeps_time_and_batch_dimensions() -> None:
    model = make_world_model(REAL)
    observations = th.arange(24.0).reshape(3, 4, 2)
    latents = model.encode(observations)
    for step in range(3):
        assert th.equal(latents[step], model.encoder(observations[step]))


def test_reward_of_a_reset_is_zero() -> None:
    model = make_world_model(spaces.MultiBinary(2))
    model.normalizer.update(th.tensor([0.25, 0.75]))
    observations = th.tensor([[1, 0], [1, 0], [0, 1]], dtype=th.int8)
    predicted_latents = th.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    latents, rewards = model.observe(observations, predicted_latents, th.tensor([False, True, False]))
    assert th.equal(latents, observations.float())
    # errors 1/2, -, 0 against a mean of 1/2 and a deviation of sqrt(2 / 16)
    assert rewards.tolist() == pytest.approx([0.0, 0.0, -0.5 / (2 / 16) ** 0.5])
    rewards = model.observe(observations, predicted_latents, th.ones(3, dtype=th.bool))[1]
    assert rewards.tolist() == [0.0, 0.0, 0.0]


def test_state_dict_holds_all_that_is_learned() -> None:
    space = spaces.Dict({"box": REAL, "image": IMAGE})
    model, other = make_world_model(space), make_world_model(space)
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
