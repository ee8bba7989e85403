"""The predictor of the next latent: its layers step by step, and its losses by hand."""

import pytest
import torch as th
from torch import nn
from world_model_helpers import make_predictor


@pytest.mark.parametrize("binary", [[True, True, True], [False, True, False], [False, False, False]])
def test_binary_dimensions_are_probabilities(binary: list[bool]) -> None:
    predictor = make_predictor(binary)
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
    predictor = make_predictor(binary, cross_entropy=cross_entropy)
    _, losses = predictor.errors_and_losses(th.full((3, 2), 3.0), th.tensor([1.0, 0.0]).expand(3, 2))
    th.testing.assert_close(losses, th.full((3,), expected), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("cross_entropy", [True, False])
def test_gradient_of_a_confident_error_vanishes_without_cross_entropy(cross_entropy: bool) -> None:
    predictor = make_predictor([True], cross_entropy=cross_entropy)
    outputs = th.tensor([[-20.0]], requires_grad=True)
    predictor.errors_and_losses(outputs, th.ones(1, 1))[1].sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.item() == pytest.approx(-1.0 if cross_entropy else 0.0, abs=1e-6)


def test_predictor_equals_its_layers_step_by_step() -> None:
    th.manual_seed(1)
    predictor = make_predictor([True, False, False])
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
