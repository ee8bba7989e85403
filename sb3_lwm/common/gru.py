"""A GRU whose hidden state can be reset inside a sequence."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch as th
from torch import nn
from torch.autograd.function import once_differentiable

from sb3_lwm.common.gru_kernel import kernel_for


class _Unrolled(NamedTuple):
    """What a GRU did at each step; the gradient needs all of it."""

    memories: th.Tensor  # (T, B, H)
    gates: th.Tensor  # (T, B, 2H), reset and update gate
    candidates: th.Tensor  # (T, B, H)
    previous: th.Tensor  # (T, B, H), memories before the step, after the reset
    projected: th.Tensor  # (T, B, H), the candidate's linear function of the previous memory


class _GRUWeights(NamedTuple):
    """``torch.nn.GRUCell``'s parameters; the rows of each are reset gate, update gate, candidate."""

    input_weight: th.Tensor  # (3H, input_size)
    weight: th.Tensor  # (3H, H)
    input_bias: th.Tensor  # (3H,)
    bias: th.Tensor  # (3H,)


def _unroll_gru(
    inputs: th.Tensor, hidden: th.Tensor, keep: th.Tensor, weights: _GRUWeights, needs_gradient: bool
) -> _Unrolled:
    """
    Run a GRU over time (Cho et al. 2014, in PyTorch's form: the reset gate acts on the projected memory).

    Gates and candidates live in tensors of their own, so that every operation of a step works in place on contiguous memory.

    :param inputs: (T, B, input_size)
    :param hidden: (B, H), memory before the first step
    :param keep: (T, B, 1), 0 where the memory is reset before the step, else 1
    :param weights: of the GRU
    :param needs_gradient: if False only the memories need to be right
    :return: what it did
    """
    size = hidden.shape[-1]
    bias = weights.bias[2 * size :]
    gate_bias = weights.input_bias[: 2 * size] + weights.bias[: 2 * size]
    gates = nn.functional.linear(inputs, weights.input_weight[: 2 * size], gate_bias)
    candidates = nn.functional.linear(inputs, weights.input_weight[2 * size :], weights.input_bias[2 * size :])
    unrolled = _Unrolled(th.empty_like(candidates), gates, candidates, th.empty_like(candidates), th.empty_like(candidates))
    kernel = kernel_for(gates)
    if kernel is not None:
        saved = unrolled[3:] if needs_gradient else ()
        kernel.forward(
            weights.weight.contiguous(), bias, hidden.contiguous(), keep.contiguous(), gates, candidates, unrolled[0], *saved
        )
        return unrolled
    to_gates, to_candidate = weights.weight[: 2 * size].t(), weights.weight[2 * size :].t()
    resets, updates = gates[..., :size], gates[..., size:]
    for memory, gate, candidate, before, projected, reset, update, kept in _steps(*unrolled, resets, updates, keep):
        th.mul(hidden, kept, out=before)
        gate.addmm_(before, to_gates).sigmoid_()
        th.addmm(bias, before, to_candidate, out=projected)
        candidate.addcmul_(reset, projected).tanh_()
        hidden = th.lerp(candidate, before, update, out=memory)
    return unrolled


def _unroll_gru_backward(
    grad_memories: th.Tensor, weight: th.Tensor, keep: th.Tensor, unrolled: _Unrolled
) -> tuple[th.Tensor, th.Tensor, th.Tensor, th.Tensor]:
    """
    The gradient of :func:`_unroll_gru`, from the last step to the first.

    :param grad_memories: (T, B, H)
    :param weight: (3H, H)
    :param keep: (T, B, 1)
    :param unrolled: what the GRU did
    :return: gradients with respect to the arguments of the gates (T, B, 2H) and of the candidates (T, B, H), to the
        candidates' projected memories (T, B, H), and to the memory before the first step (B, H)
    """
    _, gates, candidates, previous, projected = unrolled
    size = previous.shape[-1]
    grad_gates, grad_candidates, grad_projected = (th.empty_like(part) for part in (gates, candidates, projected))
    grad_hidden = th.zeros_like(previous[0])
    kernel = kernel_for(gates)
    if kernel is not None:
        results = grad_gates, grad_candidates, grad_projected, grad_hidden
        kernel.backward(weight.contiguous(), keep.contiguous(), *unrolled[1:], grad_memories.contiguous(), *results)
        return results
    parts = (gates[..., :size], gates[..., size:], grad_gates[..., :size], grad_gates[..., size:])
    for step in reversed(
        list(_steps(grad_memories, keep, *unrolled[2:], grad_gates, grad_candidates, grad_projected, *parts))
    ):
        (grad_memory, kept, candidate, before, from_memory, grad_gate, grad_candidate, grad_from_memory) = step[:8]
        reset, update, grad_reset, grad_update = step[8:]
        grad_memory = grad_memory + grad_hidden
        grad_hidden = grad_memory * update
        _tanh_backward(grad_memory - grad_hidden, candidate, grad_input=grad_candidate)
        _sigmoid_backward((before - candidate).mul_(grad_memory), update, grad_input=grad_update)
        _sigmoid_backward(grad_candidate * from_memory, reset, grad_input=grad_reset)
        th.mul(grad_candidate, reset, out=grad_from_memory)
        grad_hidden.addmm_(grad_gate, weight[: 2 * size]).addmm_(grad_from_memory, weight[2 * size :]).mul_(kept)
    return grad_gates, grad_candidates, grad_projected, grad_hidden


_sigmoid_backward = th.ops.aten.sigmoid_backward.grad_input
_tanh_backward = th.ops.aten.tanh_backward.grad_input


def _steps(*tensors: th.Tensor) -> Iterator[tuple[th.Tensor, ...]]:
    """:return: the views of each step; cutting them in one call is far cheaper than one by one"""
    return zip(*(tensor.unbind(0) for tensor in tensors), strict=True)


class _GRUUnroll(th.autograd.Function):
    """
    The unroll with every product that does not depend on the step before done once for the whole sequence: the
    projection of the inputs, and the gradients of the weights.
    """

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
        *gradients, grad_hidden = _unroll_gru_backward(grad_memories, weight, keep, unrolled)
        grad_gates, grad_candidates, grad_projected = (gradient.flatten(0, 1) for gradient in gradients)
        flat_inputs, previous = inputs.flatten(0, 1), unrolled.previous.flatten(0, 1)
        gate_bias = grad_gates.sum(dim=0)
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            size = grad_candidates.shape[-1]
            grad_inputs = grad_gates @ input_weight[: 2 * size]
            grad_inputs = grad_inputs.addmm_(grad_candidates, input_weight[2 * size :]).view_as(inputs)
        return (
            grad_inputs,
            grad_hidden,
            None,
            th.cat((grad_gates.t() @ flat_inputs, grad_candidates.t() @ flat_inputs)),
            th.cat((grad_gates.t() @ previous, grad_projected.t() @ previous)),
            th.cat((gate_bias, grad_candidates.sum(dim=0))),
            th.cat((gate_bias, grad_projected.sum(dim=0))),
        )


def gru_memories(inputs: th.Tensor, hidden: th.Tensor, keep: th.Tensor, *weights: th.Tensor) -> th.Tensor:
    """
    Run a GRU along a sequence.

    :param inputs: (T, B, input_size) float
    :param hidden: (B, H) float, memory before the first step
    :param keep: (T, B, 1) float, 0 where the memory is zeroed before the step, else 1
    :param weights: ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh`` of a ``torch.nn.GRUCell``
    :return: (T, B, H) float, memory after each step
    """
    if th.is_grad_enabled():
        return _GRUUnroll.apply(inputs, hidden, keep, *weights)
    return _unroll_gru(inputs, hidden, keep, _GRUWeights(*weights), needs_gradient=False).memories


class ResettableGRU(nn.Module):
    """
    A GRU whose memory can be reset before any step of a sequence, where an episode begins.

    Its parameters have the names, shapes and initial distribution of ``torch.nn.GRUCell``. The inputs of all steps are
    projected in one product.

    :param input_size: size of an input
    :param hidden_size: size of the memory
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
        """
        :param inputs: (T, B, input_size) float
        :param hidden: (B, hidden_size) float, memory before the first step
        :param resets: (T, B) bool, the memory is zeroed before this step
        :return: (T, B, hidden_size) float, memory after each step
        """
        cell = self.cell
        keep = resets.logical_not().to(inputs.dtype).unsqueeze(-1)
        if len(inputs) == 1 and not th.is_grad_enabled():
            # acting: one call for a single step
            return cell(inputs[0], hidden * keep[0]).unsqueeze(0)
        return gru_memories(inputs, hidden, keep, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
