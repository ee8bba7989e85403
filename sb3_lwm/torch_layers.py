"""The one recurrent unroll with resets that the Q-network's and the world model's memory share."""

from typing import Any

import torch as th
from torch import nn
from torch.autograd.function import once_differentiable


def _unroll_gru(
    gates: th.Tensor, hidden: th.Tensor, weight: th.Tensor, bias: th.Tensor, keep: th.Tensor
) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """
    Run a GRU over time (Cho et al. 2014, in PyTorch's form: the reset gate acts on the projected memory).

    :param gates: (T, B, 3H), projected inputs in the order reset, update, candidate; overwritten by the gates
    :param hidden: (B, H), memory before the first step
    :param weight: (3H, H)
    :param bias: (3H,)
    :param keep: (T, B, 1), 0 where the memory is reset before the step, else 1
    :return: (T, B, H) memories, (T, B, H) memories before each step, after the reset, and (T, B, H) projected memories
        of the candidate
    """
    size = hidden.shape[-1]
    outputs = hidden.new_empty(*gates.shape[:2], size)
    previous, candidate_memories = th.empty_like(outputs), th.empty_like(outputs)
    weight = weight.t()
    steps = zip(*(tensor.unbind(0) for tensor in (gates, keep, outputs, previous, candidate_memories)), strict=True)
    for step_gates, step_keep, output, before, candidate_memory in steps:
        th.mul(hidden, step_keep, out=before)
        projected = th.addmm(bias, before, weight)
        candidate_memory.copy_(projected[:, 2 * size :])
        opened = step_gates[:, : 2 * size].add_(projected[:, : 2 * size]).sigmoid_()
        candidate = step_gates[:, 2 * size :].addcmul_(opened[:, :size], candidate_memory).tanh_()
        hidden = th.lerp(candidate, before, opened[:, size:], out=output)
    return outputs, previous, candidate_memories


class _GRUUnroll(th.autograd.Function):
    """
    The unroll with every product that does not depend on the step before done once for the whole sequence: the
    projection of the inputs, and the gradients of the weights.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, inputs: th.Tensor, hidden: th.Tensor, keep: th.Tensor, *parameters: th.Tensor
    ) -> th.Tensor:
        input_weight, weight, input_bias, bias = parameters
        gates = nn.functional.linear(inputs, input_weight, input_bias)
        outputs, previous, candidate_memories = _unroll_gru(gates, hidden, weight, bias, keep)
        ctx.save_for_backward(inputs, keep, input_weight, weight, gates, previous, candidate_memories)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: th.Tensor) -> tuple[th.Tensor | None, ...]:  # type: ignore[override]
        inputs, keep, input_weight, weight, *saved = ctx.saved_tensors
        grad_gates, grad_candidate_memories, grad_hidden = _unroll_gru_backward(grad_outputs, weight, keep, *saved)
        previous = saved[1].flatten(0, 1)
        size = previous.shape[-1]
        flat = grad_gates.flatten(0, 1)
        grad_input_weight, grad_input_bias = flat.t() @ inputs.flatten(0, 1), flat.sum(dim=0)
        grad_inputs = grad_gates @ input_weight if ctx.needs_input_grad[0] else None
        # the recurrent side differs from the input side in the candidate's part only
        flat[:, 2 * size :] = grad_candidate_memories.flatten(0, 1)
        return grad_inputs, grad_hidden, None, grad_input_weight, flat.t() @ previous, grad_input_bias, flat.sum(dim=0)


def _unroll_gru_backward(
    grad_outputs: th.Tensor,
    weight: th.Tensor,
    keep: th.Tensor,
    gates: th.Tensor,
    previous: th.Tensor,
    candidate_memories: th.Tensor,
) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """
    The gradient of :func:`_unroll_gru`, from the last step to the first.

    :param grad_outputs: (T, B, H)
    :param weight: (3H, H), and the rest as that function takes and returns it
    :return: gradients of the gates' arguments (T, B, 3H), of the candidate's projected memories (T, B, H), of the memory
        before the first step (B, H)
    """
    size = previous.shape[-1]
    grad_gates, grad_candidate_memories = th.empty_like(gates), th.empty_like(previous)
    grad_projected = th.empty_like(gates[0])
    grad_hidden = th.zeros_like(previous[0])
    sigmoid_backward, tanh_backward = th.ops.aten.sigmoid_backward, th.ops.aten.tanh_backward
    for step in range(len(gates) - 1, -1, -1):
        reset, update, candidate = gates[step].split(size, dim=-1)
        grad_memory = grad_outputs[step] + grad_hidden
        grad_hidden = grad_memory * update
        grad_candidate = tanh_backward(grad_memory - grad_hidden, candidate)
        grad_update = sigmoid_backward((previous[step] - candidate).mul_(grad_memory), update)
        grad_reset = sigmoid_backward(grad_candidate * candidate_memories[step], reset)
        th.cat((grad_reset, grad_update, grad_candidate), dim=-1, out=grad_gates[step])
        grad_candidate_memory = th.mul(grad_candidate, reset, out=grad_candidate_memories[step])
        th.cat((grad_reset, grad_update, grad_candidate_memory), dim=-1, out=grad_projected)
        grad_hidden = grad_hidden.addmm_(grad_projected, weight).mul_(keep[step])
    return grad_gates, grad_candidate_memories, grad_hidden


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
        if th.is_grad_enabled():
            parameters = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            return _GRUUnroll.apply(inputs, hidden, keep, *parameters)
        gates = nn.functional.linear(inputs, cell.weight_ih, cell.bias_ih)
        return _unroll_gru(gates, hidden, cell.weight_hh, cell.bias_hh, keep)[0]
