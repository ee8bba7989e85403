"""A GRU whose hidden state can be reset inside a sequence."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch as th
from torch import nn
from torch.autograd.function import once_differentiable

from sb3_lwm.common.gru_kernel import kernel_for


class _Unrolled(NamedTuple):
    """The values of a GRU at each step that its gradient needs."""

    memories: th.Tensor  # (T, B, H), hidden states after each step
    activations: th.Tensor  # (T, B, 3H), reset gate, update gate and candidate
    previous: th.Tensor  # (T, B, H), hidden states before the step, after the reset
    projected: th.Tensor  # (T, B, H), the candidate's linear function of the previous hidden state


class _GRUWeights(NamedTuple):
    """The parameters of a ``torch.nn.GRUCell``, each with rows for the reset gate, the update gate and the candidate."""

    input_weight: th.Tensor  # (3H, input_size)
    weight: th.Tensor  # (3H, H)
    input_bias: th.Tensor  # (3H,)
    bias: th.Tensor  # (3H,)


class _Gradients(NamedTuple):
    """The gradients of a loss with respect to the sums that a GRU computes at each step."""

    activations: th.Tensor  # (T, B, 3H), with respect to the arguments of gates and candidates
    projected: th.Tensor  # (T, B, H)
    biases: th.Tensor  # (4H,), sums of the two gradients above over steps and batch
    hidden: th.Tensor  # (B, H), with respect to the hidden state before the first step


def _unroll_gru(
    inputs: th.Tensor, hidden: th.Tensor, keep: th.Tensor, weights: _GRUWeights, needs_gradient: bool
) -> _Unrolled:
    """Run a GRU over time (Cho et al. 2014, in PyTorch's form); without ``needs_gradient`` only the memories are correct."""
    kernel = kernel_for(inputs)
    if kernel is None:
        return _unroll_in_steps(inputs, hidden, keep, weights)
    # one matrix product for all steps; the kernel adds the biases
    activations = inputs @ weights.input_weight.t()
    parts = [activations.new_empty((*activations.shape[:2], hidden.shape[-1])) for _ in range(3)]
    unrolled = _Unrolled(parts[0], activations, *parts[1:])
    recurrent = [part.contiguous() for part in weights[1:]]
    saved = unrolled[2:] if needs_gradient else None
    kernel.forward(recurrent, hidden.contiguous(), keep.contiguous(), activations, unrolled.memories, saved)
    return unrolled


def _unroll_in_steps(inputs: th.Tensor, hidden: th.Tensor, keep: th.Tensor, weights: _GRUWeights) -> _Unrolled:
    """Run the loop over time in PyTorch, with in-place operations only."""
    size = hidden.shape[-1]
    input_bias, bias = weights.input_bias.clone(), weights.bias[2 * size :]
    input_bias[: 2 * size] += weights.bias[: 2 * size]
    activations = nn.functional.linear(inputs, weights.input_weight, input_bias)
    parts = [activations.new_empty((*activations.shape[:2], size)) for _ in range(3)]
    unrolled = _Unrolled(parts[0], activations, *parts[1:])
    to_gates, to_candidate = weights.weight[: 2 * size].t(), weights.weight[2 * size :].t()
    for memory, before, projected, kept, gate, candidate, reset, update in _steps(
        unrolled.memories, *unrolled[2:], keep, *_split(activations)
    ):
        th.mul(hidden, kept, out=before)
        gate.addmm_(before, to_gates).sigmoid_()
        th.addmm(bias, before, to_candidate, out=projected)
        candidate.addcmul_(reset, projected).tanh_()
        hidden = th.lerp(candidate, before, update, out=memory)
    return unrolled


def _unroll_gru_backward(grad_memories: th.Tensor, weight: th.Tensor, keep: th.Tensor, unrolled: _Unrolled) -> _Gradients:
    """Compute the gradients of :func:`_unroll_gru`, from the last step to the first."""
    kernel = kernel_for(grad_memories)
    if kernel is None:
        return _unroll_backward_in_steps(grad_memories, weight, keep, unrolled)
    previous = unrolled.previous
    gradients = _Gradients(
        th.empty_like(unrolled.activations),
        th.empty_like(previous),
        previous.new_empty(4 * previous.shape[-1]),
        previous.new_empty(previous.shape[1:]),
    )
    kernel.backward(weight.contiguous(), keep.contiguous(), unrolled[1:], grad_memories.contiguous(), gradients)
    return gradients


def _unroll_backward_in_steps(grad_memories: th.Tensor, weight: th.Tensor, keep: th.Tensor, unrolled: _Unrolled) -> _Gradients:
    """Run the backward loop over time in PyTorch."""
    _, activations, previous, projected = unrolled
    size = previous.shape[-1]
    grad_activations, grad_projected = th.empty_like(activations), th.empty_like(projected)
    grad_hidden = th.zeros_like(previous[0])
    parts = (*_split(activations), *_split(grad_activations))
    for step in reversed(list(_steps(grad_memories, keep, previous, projected, grad_projected, *parts))):
        grad_memory, kept, before, from_memory, grad_from_memory, _, candidate, reset, update = step[:9]
        grad_gate, grad_candidate, grad_reset, grad_update = step[9:]
        grad_memory = grad_memory + grad_hidden
        grad_hidden = grad_memory * update
        _tanh_backward(grad_memory - grad_hidden, candidate, grad_input=grad_candidate)
        _sigmoid_backward((before - candidate).mul_(grad_memory), update, grad_input=grad_update)
        _sigmoid_backward(grad_candidate * from_memory, reset, grad_input=grad_reset)
        th.mul(grad_candidate, reset, out=grad_from_memory)
        grad_hidden.addmm_(grad_gate, weight[: 2 * size]).addmm_(grad_from_memory, weight[2 * size :]).mul_(kept)
    biases = th.cat((grad_activations.sum(dim=(0, 1)), grad_projected.sum(dim=(0, 1))))
    return _Gradients(grad_activations, grad_projected, biases, grad_hidden)


_sigmoid_backward = th.ops.aten.sigmoid_backward.grad_input
_tanh_backward = th.ops.aten.tanh_backward.grad_input


def _split(activations: th.Tensor) -> tuple[th.Tensor, ...]:
    """Return views of both gates together, of the candidates, and of each gate."""
    reset, update, candidate = activations.chunk(3, dim=-1)
    return activations[..., : 2 * candidate.shape[-1]], candidate, reset, update


def _steps(*tensors: th.Tensor) -> Iterator[tuple[th.Tensor, ...]]:
    """Return the views of each step, by one call for each tensor, which is far faster than one call for each step."""
    return zip(*(tensor.unbind(0) for tensor in tensors), strict=True)


class _GRUUnroll(th.autograd.Function):
    """The unroll, with one product for all steps wherever a step does not depend on the one before."""

    @staticmethod
    def forward(ctx: Any, inputs: th.Tensor, hidden: th.Tensor, keep: th.Tensor, *weights: th.Tensor) -> th.Tensor:
        unrolled = _unroll_gru(inputs, hidden, keep, _GRUWeights(*weights), needs_gradient=True)
        ctx.save_for_backward(inputs, keep, *weights[:2], *unrolled[1:])
        return unrolled.memories

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_memories: th.Tensor) -> tuple[th.Tensor | None, ...]:
        inputs, keep, input_weight, weight, *saved = ctx.saved_tensors
        unrolled = _Unrolled(grad_memories, *saved)
        gradients = _unroll_gru_backward(grad_memories, weight, keep, unrolled)
        to_activations, to_projected = (part.flatten(0, 1) for part in gradients[:2])
        previous = unrolled.previous.flatten(0, 1)
        gates = 2 * previous.shape[-1]
        grad_weight = th.empty_like(weight)
        th.mm(to_activations[:, :gates].t(), previous, out=grad_weight[:gates])
        th.mm(to_projected.t(), previous, out=grad_weight[gates:])
        input_bias, bias = gradients.biases[: len(weight)], gradients.biases[len(weight) :]
        return (
            (to_activations @ input_weight).view_as(inputs) if ctx.needs_input_grad[0] else None,
            gradients.hidden,
            None,
            to_activations.t() @ inputs.flatten(0, 1),
            grad_weight,
            input_bias,
            th.cat((input_bias[:gates], bias)),
        )


def gru_memories(inputs: th.Tensor, hidden: th.Tensor, keep: th.Tensor, *weights: th.Tensor) -> th.Tensor:
    """
    Run a GRU along a sequence.

    :param inputs: The inputs, (T, B, input_size) float
    :param hidden: The hidden states before the first step, (B, H) float
    :param keep: 0 where the hidden state is set to zero before the step, else 1, (T, B, 1) float
    :param weights: The parameters ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh`` of a ``torch.nn.GRUCell``
    :return: The hidden states after each step, (T, B, H) float
    """
    if th.is_grad_enabled():
        return _GRUUnroll.apply(inputs, hidden, keep, *weights)
    return _unroll_gru(inputs, hidden, keep, _GRUWeights(*weights), needs_gradient=False).memories


class ResettableGRU(nn.Module):
    """
    A GRU whose hidden state can be reset before any step of a sequence, where an episode begins.

    Its parameters have the names, shapes and initial distribution of ``torch.nn.GRUCell``. The inputs of all steps are
    projected in one product.

    :param input_size: The size of an input
    :param hidden_size: The size of the hidden state
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
        """
        :param inputs: The inputs, (T, B, input_size) float
        :param hidden: The hidden states before the first step, (B, hidden_size) float
        :param resets: Whether the hidden state is set to zero before each step, (T, B) bool
        :return: The hidden states after each step, (T, B, hidden_size) float
        """
        cell = self.cell
        keep = resets.logical_not().to(inputs.dtype).unsqueeze(-1)
        if inputs.shape[0] == 1 and not th.is_grad_enabled():
            # a single step, as in acting, is one call of the cell
            return cell(inputs[0], hidden * keep[0]).unsqueeze(0)
        return gru_memories(inputs, hidden, keep, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
