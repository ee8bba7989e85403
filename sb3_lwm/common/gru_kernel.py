"""The compiled loops of a GRU over time (``gru_kernel.c``), for float32 on a CPU. ``docs/performance.md`` describes them."""

import ctypes
import functools
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch as th

# The environment variable that switches the kernel off ("0") or selects an instruction set
VARIABLE = "SB3_LWM_KERNEL"
# The instruction sets that the kernel was compiled for, as gru_kernel.c numbers them
LEVELS = ("baseline", "avx2", "avx512")
LIBRARY = Path(__file__).with_name("_gru_kernel.dll" if sys.platform == "win32" else "_gru_kernel.so")


class GRUKernel:
    """
    The loops of :mod:`sb3_lwm.common.gru` over time, each step in one function compiled for the processor. They use one
    thread. All tensors are contiguous, float32 and on the CPU.

    :param path: The shared library
    :param level: The instruction set, one of ``LEVELS``; None for the best one of this processor
    :raises OSError: If the library cannot be loaded
    :raises ValueError: If this processor does not have the instruction set
    """

    def __init__(self, path: Path, level: str | None = None) -> None:
        library = ctypes.CDLL(str(path))
        number, size, pointer = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
        self._forward = _declare(library.gru_forward, None, number, size, size, size, *[pointer] * 10)
        self._backward = _declare(library.gru_backward, None, number, size, size, size, *[pointer] * 11)
        self._workspace = _declare(library.gru_workspace, size, number, size, size)
        self._functions = _declare(library.gru_functions, None, number, size, *[pointer] * 4)
        self._peak = _declare(library.gru_peak, ctypes.c_double, number, size, pointer)
        best = library.gru_best_level()
        if level is not None and level not in LEVELS[: best + 1]:
            raise ValueError(f"{VARIABLE}={level}: this processor has {', '.join(LEVELS[: best + 1])}; use 0 for none.")
        self.level = LEVELS[best] if level is None else level
        self._level = LEVELS.index(self.level)

    def forward(
        self,
        weights: Sequence[th.Tensor],
        hidden: th.Tensor,
        keep: th.Tensor,
        activations: th.Tensor,
        memories: th.Tensor,
        saved: Sequence[th.Tensor] | None,
    ) -> None:
        """
        Run the GRU over time. The last three tensors are written.

        :param weights: The recurrent weights (3H, H), the bias of the inputs (3H,) and the recurrent bias (3H,)
        :param hidden: The hidden states before the first step, (B, H)
        :param keep: 0 where the hidden state is reset before the step, else 1, (T, B, 1)
        :param activations: The inputs times their weights, (T, B, 3H); with ``saved`` they are replaced by the reset gates,
            update gates and candidates
        :param memories: The hidden states after each step, (T, B, H)
        :param saved: Two tensors (T, B, H) that the backward pass needs, the hidden states before each step and their linear
            functions for the candidates; None without a backward pass
        """
        steps, batch, size = memories.shape
        pointers = [part.data_ptr() for part in (*weights, hidden, keep, activations, memories)]
        pointers += [None, None] if saved is None else [part.data_ptr() for part in saved]  # type: ignore[list-item]
        workspace = self._allocate(batch, size)
        self._forward(self._level, steps, batch, size, *pointers, workspace.data_ptr())

    def backward(
        self,
        weight: th.Tensor,
        keep: th.Tensor,
        saved: Sequence[th.Tensor],
        grad_memories: th.Tensor,
        gradients: Sequence[th.Tensor],
    ) -> None:
        """
        Compute the gradients of :meth:`forward`.

        :param weight: The recurrent weights, (3H, H)
        :param keep: 0 where the hidden state is reset before the step, else 1, (T, B, 1)
        :param saved: The activations (T, B, 3H) and the two tensors (T, B, H) that :meth:`forward` has saved
        :param grad_memories: The gradients with respect to the hidden states after each step, (T, B, H)
        :param gradients: The tensors to write, the gradients with respect to the arguments of gates and candidates (T, B, 3H),
            to the linear functions (T, B, H), to their biases (4H,), and to the hidden states before the first step (B, H)
        """
        steps, batch, size = grad_memories.shape
        tensors = (weight, keep, *saved, grad_memories, *gradients, self._allocate(batch, size))
        self._backward(self._level, steps, batch, size, *(part.data_ptr() for part in tensors))

    def _allocate(self, batch: int, size: int) -> th.Tensor:
        """Return a buffer for the packed weights."""
        return th.empty(self._workspace(self._level, batch, size), dtype=th.float32)

    def functions(self, values: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        :param values: The arguments, (N,) float32
        :return: The exponential function between -87 and 87, tanh and the logistic function as the kernel computes them,
            (N,) float32 each
        """
        results = (th.empty_like(values), th.empty_like(values), th.empty_like(values))
        self._functions(self._level, len(values), *map(th.Tensor.data_ptr, (values, *results)))
        return results

    def multiply_and_add(self, repetitions: int) -> float:
        """
        Multiply and add repeatedly, to measure the processor's speed at these operations.

        :param repetitions: The number of repetitions of a dozen instructions
        :return: The number of floating point operations done
        """
        results = th.empty(1024)
        return self._peak(self._level, repetitions, results.data_ptr())


def _declare(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Set the types of a function for ctypes."""
    function.restype, function.argtypes = result, arguments
    return function


@functools.cache
def load_kernel() -> GRUKernel | None:
    """
    :return: The kernel, loaded once; None if it was not compiled, was switched off, or is slower than PyTorch here
    :raises ValueError: If the environment variable names a level that does not exist or that this processor does not have
    """
    choice = os.environ.get(VARIABLE, "").lower()
    if choice == "0":
        return None
    try:
        kernel = GRUKernel(LIBRARY, None if choice in ("", "1") else choice)
    except OSError:
        return None
    # the vectors of 64-bit Arm are the baseline; on x86 PyTorch's own loops are faster than the kernel with its baseline
    is_fast = kernel.level != "baseline" or choice == "baseline" or platform.machine() in ("aarch64", "arm64")
    return kernel if is_fast else None


def kernel_for(inputs: th.Tensor) -> GRUKernel | None:
    """
    :param inputs: The inputs of the GRU
    :return: The kernel; None where only PyTorch can compute the GRU: on GPUs, in other precisions, and to trace operations
    """
    if inputs.device.type != "cpu" or inputs.dtype != th.float32 or th.is_autocast_enabled("cpu"):
        return None
    if th.jit.is_tracing() or th.compiler.is_compiling():
        return None
    return load_kernel()


@functools.cache
def say_that_kernel_is_missing() -> None:
    """Print, once in a process, the consequence of an installation without the compiled kernel, if it is missing."""
    if load_kernel() is None and os.environ.get(VARIABLE) != "0":
        print(
            "The compiled GRU is missing or does not suit this processor: PyTorch computes the same, and training with small "
            "networks on a CPU takes about 1.5 times as long. docs/performance.md describes how to compile it."
        )
