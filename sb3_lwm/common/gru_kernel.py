"""The compiled loops of a GRU over time (``gru_kernel.c``), for float32 on a CPU. ``docs/performance.md`` describes them."""

import ctypes
import functools
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch as th

# The environment variable that switches the kernel off ("0") or chooses a level
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
        self._backward = _declare(library.gru_backward, None, number, size, size, size, *[pointer] * 12)
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
        weight: th.Tensor,
        bias: th.Tensor,
        hidden: th.Tensor,
        keep: th.Tensor,
        gates: th.Tensor,
        candidates: th.Tensor,
        memories: th.Tensor,
        *saved: th.Tensor,
    ) -> None:
        """
        Run the GRU over time. The last tensors are written.

        :param weight: (3H, H), the recurrent weights
        :param bias: (H,), the recurrent bias of the candidates
        :param hidden: (B, H), the hidden state before the first step
        :param keep: (T, B, 1), 0 where the hidden state is reset before the step, else 1
        :param gates: (T, B, 2H), the projected inputs with both biases; where ``saved`` is given, then the gates
        :param candidates: (T, B, H), the projected inputs with their bias; where ``saved`` is given, then the candidates
        :param memories: (T, B, H), the hidden states after each step
        :param saved: Either nothing, or two tensors (T, B, H) that the backward pass needs: the hidden states before each step
            and their linear functions for the candidates
        """
        steps, batch, size = memories.shape
        tensors = (weight, bias, hidden, keep, gates, candidates, memories)
        pointers = [*map(th.Tensor.data_ptr, tensors), *(map(th.Tensor.data_ptr, saved) if saved else (None, None))]
        workspace = self._allocate(batch, size)
        self._forward(self._level, steps, batch, size, *pointers, workspace.data_ptr())

    def backward(self, weight: th.Tensor, keep: th.Tensor, *tensors: th.Tensor) -> None:
        """
        Compute the gradient of :meth:`forward`. The last four tensors are written.

        :param weight: (3H, H), the recurrent weights
        :param keep: (T, B, 1), 0 where the hidden state is reset before the step, else 1
        :param tensors: Gates (T, B, 2H), candidates, hidden states before each step, their linear functions for candidates,
            the gradient with respect to the hidden states after each step, all (T, B, H); the gradients with respect to the
            arguments of the gates (T, B, 2H), to those of the candidates, to the linear functions (T, B, H), and to the
            hidden state before the first step (B, H)
        """
        steps, batch, size = tensors[1].shape
        workspace = self._allocate(batch, size)
        pointers = map(th.Tensor.data_ptr, (weight, keep, *tensors, workspace))
        self._backward(self._level, steps, batch, size, *pointers)

    def _allocate(self, batch: int, size: int) -> th.Tensor:
        """Return the memory for packed weights."""
        return th.empty(self._workspace(self._level, batch, size), dtype=th.float32)

    def functions(self, values: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        :param values: (N,) float32
        :return: (N,) float32 three times, the exponential function between -87 and 87, tanh and the logistic function, as the
            kernel computes them
        """
        results = (th.empty_like(values), th.empty_like(values), th.empty_like(values))
        self._functions(self._level, len(values), *map(th.Tensor.data_ptr, (values, *results)))
        return results

    def multiply_and_add(self, repetitions: int) -> float:
        """
        Keep the processor's units for multiplication and addition busy, to measure how fast they are.

        :param repetitions: The number of repetitions of a dozen instructions
        :return: The number of floating point operations done
        """
        return self._peak(self._level, repetitions, th.empty(1024).data_ptr())


def _declare(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Tell ctypes the types of a function."""
    function.restype, function.argtypes = result, arguments
    return function


@functools.cache
def load_kernel() -> GRUKernel | None:
    """
    :return: The kernel, loaded once; None if it was not compiled, was switched off, or has no fast instructions here
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
    :param inputs: A tensor that the GRU computes with
    :return: The kernel, if it can do the same; None where PyTorch must: on GPUs, in other precisions, or to trace operations
    """
    if inputs.device.type != "cpu" or inputs.dtype != th.float32 or th.jit.is_tracing() or th.compiler.is_compiling():
        return None
    return load_kernel()


@functools.cache
def say_that_kernel_is_missing() -> None:
    """Print, once in a process, what an installation without the compiled kernel is lacking; nothing if it has it."""
    if load_kernel() is None and os.environ.get(VARIABLE) != "0":
        print(
            "The compiled GRU is missing or does not suit this processor: PyTorch computes the same, and training with small "
            "networks on a CPU takes about 1.5 times as long. docs/performance.md says how to compile it."
        )
