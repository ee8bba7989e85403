"""The recurrent unroll against a loop over torch's own GRU cell."""

import pytest
import torch as th
from torch import nn

from sb3_lwm.common.gru import ResettableGRU

LENGTH, BATCH, INPUT, HIDDEN = 7, 4, 3, 5


def make_case(
    length: int = LENGTH, batch: int = BATCH, seed: int = 0
) -> tuple[ResettableGRU, th.Tensor, th.Tensor, th.Tensor]:
    """Return a float64 layer, its inputs, hidden states, and resets at the first, a middle or the last row of some columns."""
    th.manual_seed(seed)
    layer = ResettableGRU(INPUT, HIDDEN).double()
    inputs = th.randn(length, batch, INPUT, dtype=th.float64)
    hidden = th.randn(batch, HIDDEN, dtype=th.float64)
    resets = th.rand(length, batch) < 0.3
    if batch > 2:
        resets[:, 0] = False
        resets[0, 1] = resets[-1, 1] = True
        resets[0, 2] = False
        resets[length // 2, 2] = True
    return layer, inputs.requires_grad_(), hidden.requires_grad_(), resets


def loop(cell: nn.GRUCell, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
    """Return the required hidden states, (T, B, hidden_size), by one step of PyTorch's cell at a time."""
    memories = []
    for step_inputs, step_resets in zip(inputs, resets, strict=True):
        hidden = cell(step_inputs, th.where(step_resets.unsqueeze(-1), th.zeros_like(hidden), hidden))
        memories.append(hidden)
    return th.stack(memories)


@pytest.mark.parametrize(
    ("length", "batch", "seed"), [(LENGTH, BATCH, 0), (LENGTH, BATCH, 1), (1, 1, 2), (1, 4, 3), (20, 1, 4)]
)
def test_values_and_gradients_equal_those_of_the_cell(length: int, batch: int, seed: int) -> None:
    layer, inputs, hidden, resets = make_case(length, batch, seed)
    variables = {"inputs": inputs, "hidden": hidden, **dict(layer.cell.named_parameters())}
    # every entry weighs differently, so that no two errors cancel
    weights = th.randn(length, batch, HIDDEN, dtype=th.float64)

    expected = loop(layer.cell, inputs, hidden, resets)
    memories = layer(inputs, hidden, resets)
    th.testing.assert_close(memories, expected, rtol=1e-12, atol=1e-12)
    gradients = th.autograd.grad((memories * weights).sum(), list(variables.values()))
    expected_gradients = th.autograd.grad((expected * weights).sum(), list(variables.values()))
    assert len(variables) == 6
    for name, gradient, expected_gradient in zip(variables, gradients, expected_gradients, strict=True):
        th.testing.assert_close(
            gradient, expected_gradient, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_gradcheck() -> None:
    layer, inputs, hidden, resets = make_case(length=4, batch=3)
    parameters = dict(layer.named_parameters())

    def unroll(inputs: th.Tensor, hidden: th.Tensor, *values: th.Tensor) -> th.Tensor:
        return th.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (inputs, hidden, resets))

    assert th.autograd.gradcheck(unroll, (inputs, hidden, *parameters.values()))


def test_float32_is_close_to_the_cell() -> None:
    layer, inputs, hidden, resets = make_case()
    layer, inputs, hidden = layer.float(), inputs.detach().float(), hidden.detach().float()
    memories = layer(inputs, hidden, resets)
    assert memories.dtype == th.float32
    th.testing.assert_close(memories, loop(layer.cell, inputs, hidden, resets))


def test_sequence_equals_its_single_steps() -> None:
    layer, inputs, hidden, resets = make_case()
    unrolled = layer(inputs, hidden, resets)
    memory, steps = hidden, []
    for step in range(LENGTH):
        memory = layer(inputs[step : step + 1], memory, resets[step : step + 1])[0]
        steps.append(memory)
    th.testing.assert_close(th.stack(steps), unrolled, rtol=1e-12, atol=1e-12)
    # and so are its gradients, which travel from step to step through the memory
    unrolled_gradient, steps_gradient = (th.autograd.grad(out.sum(), inputs)[0] for out in (unrolled, th.stack(steps)))
    th.testing.assert_close(steps_gradient, unrolled_gradient, rtol=1e-10, atol=1e-12)


def test_without_gradient_the_values_are_the_same() -> None:
    layer, inputs, hidden, resets = make_case()
    with_gradient = layer(inputs, hidden, resets)
    kept = inputs.detach().clone(), hidden.detach().clone(), resets.clone()
    for mode in (th.no_grad, th.inference_mode):
        with mode():
            memories = layer(inputs, hidden, resets)
        assert not memories.requires_grad
        assert th.equal(memories, with_gradient)
    # the unroll works in place: not on what it was given
    assert th.equal(inputs, kept[0]) and th.equal(hidden, kept[1]) and th.equal(resets, kept[2])


def test_inputs_without_gradient_get_none() -> None:
    layer, inputs, hidden, resets = make_case()
    expected = th.autograd.grad(loop(layer.cell, inputs, hidden, resets).sum(), list(layer.parameters()))
    # encoded latents and stored memories come without a graph
    layer(inputs.detach(), hidden.detach(), resets).sum().backward()
    assert inputs.grad is None and hidden.grad is None
    for parameter, gradient in zip(layer.parameters(), expected, strict=True):
        th.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-12)


def test_two_backward_passes_over_one_graph() -> None:
    layer, inputs, hidden, resets = make_case()
    memories = layer(inputs, hidden, resets)
    variables = [inputs, hidden, *layer.parameters()]
    first = th.autograd.grad(memories.square().sum(), variables, retain_graph=True)
    second = th.autograd.grad(memories.square().sum(), variables)
    # what the forward pass saved must survive the first backward pass
    assert all(th.equal(left, right) for left, right in zip(first, second, strict=True))


def test_backward_refuses_weights_changed_in_place() -> None:
    layer, inputs, hidden, resets = make_case()
    loss = layer(inputs, hidden, resets).sum()
    with th.no_grad():
        layer.cell.weight_hh.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_reset_forgets_everything_before() -> None:
    layer, inputs, hidden, _ = make_case()
    resets = th.zeros(LENGTH, BATCH, dtype=th.bool)
    resets[3] = True
    memories = layer(inputs, hidden, resets)
    other = layer(th.cat((th.randn(3, BATCH, INPUT, dtype=th.float64), inputs[3:])), hidden + 1.0, resets)
    assert th.equal(memories[3:], other[3:])
    assert not th.isclose(memories[:3], other[:3]).any()
    # the same as to begin there from nothing
    fresh = layer(inputs[3:], th.zeros_like(hidden), resets[3:])
    th.testing.assert_close(memories[3:], fresh, rtol=1e-12, atol=1e-12)
    # no gradient crosses it either
    inputs_gradient, hidden_gradient = th.autograd.grad(memories[3:].sum(), (inputs, hidden))
    assert (inputs_gradient[:3] == 0).all() and (hidden_gradient == 0).all()
    assert (inputs_gradient[3:] != 0).all()


def test_only_the_reset_column_forgets() -> None:
    layer, inputs, hidden, _ = make_case()
    nowhere = th.zeros(LENGTH, BATCH, dtype=th.bool)
    resets = nowhere.clone()
    resets[2, 1] = True
    changed = (layer(inputs, hidden, nowhere) != layer(inputs, hidden, resets)).any(dim=-1)
    expected = nowhere.clone()
    expected[2:, 1] = True
    assert th.equal(changed, expected)


def test_parameters_are_those_of_the_cell() -> None:
    th.manual_seed(0)
    layer = ResettableGRU(INPUT, HIDDEN)
    th.manual_seed(0)
    cell = nn.GRUCell(INPUT, HIDDEN)
    assert layer.hidden_size == HIDDEN
    for (name, parameter), (cell_name, expected) in zip(layer.named_parameters(), cell.named_parameters(), strict=True):
        assert name == f"cell.{cell_name}"
        assert th.equal(parameter, expected)
