"""A step of an optimizer without the overhead that would slow down small networks."""

from itertools import chain
from typing import Any

import torch as th
from torch.optim.adam import adam


def optimizer_step(optimizer: th.optim.Optimizer) -> None:
    """
    Do ``optimizer.step()``. The parameters and states of Adam on a CPU are updated in one pass, as by ``Adam(fused=True)``;
    the form of the optimizer's state does not change.

    :param optimizer: The optimizer, whose parameters have their gradients
    """
    if type(optimizer) is not th.optim.Adam or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        optimizer.step()
        return
    arguments = [_fused_arguments(optimizer, group) for group in optimizer.param_groups]
    if None in arguments:
        optimizer.step()
        return
    with th.no_grad():
        for tensors, numbers in filter(None, arguments):
            adam(*tensors, **numbers)


def _fused_arguments(optimizer: th.optim.Optimizer, group: dict[str, Any]) -> tuple[list[Any], dict[str, Any]] | None:
    """Return the arguments of PyTorch's function for a group of parameters; None where it cannot replace Adam's step."""
    if any(
        group.get(name) for name in ("amsgrad", "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay")
    ):
        return None
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    # Adam creates the states of a parameter in its first step
    states = [optimizer.state.get(parameter) for parameter in parameters]
    if not all(states):
        return None
    averages = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq")]  # type: ignore[index]
    tensors = [parameters, [parameter.grad for parameter in parameters], *averages]
    # the function needs the same memory layout everywhere, while channels-last weights and loaded states may differ in it
    for part in chain.from_iterable(tensors):
        if not part.is_contiguous() or part.device.type != "cpu" or part.dtype != th.float32:
            return None
    tensors += [[], [state["step"] for state in states]]  # type: ignore[index]
    beta1, beta2 = group["betas"]
    names = ("lr", "weight_decay", "eps", "maximize")
    return tensors, {"fused": True, "amsgrad": False, "beta1": beta1, "beta2": beta2, **{name: group[name] for name in names}}
