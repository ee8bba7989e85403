"""The compiled loops of the GRU against those in PyTorch, and when they are used."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch as th
from helpers import SHORT
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_lwm import LWMDQN
from sb3_lwm.common import gru_kernel
from sb3_lwm.common.gru import ResettableGRU
from sb3_lwm.common.gru_kernel import GRUKernel, kernel_for, load_kernel, say_that_kernel_is_missing

# `make sanitize` runs these tests with a library that checks every access
LIBRARY = Path(os.environ.get("SANITIZED_KERNEL", gru_kernel.LIBRARY))


def levels() -> list[str]:
    """:return: The levels of this processor, best last"""
    best = GRUKernel(LIBRARY).level if LIBRARY.exists() else None
    return list(gru_kernel.LEVELS[: gru_kernel.LEVELS.index(best) + 1]) if best else []


pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="the kernel is not compiled: pip install --editable .")


@pytest.fixture(params=levels(), scope="module")
def kernel(request: pytest.FixtureRequest) -> GRUKernel:
    return GRUKernel(LIBRARY, request.param)


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process that has not looked for the kernel yet."""
    monkeypatch.delenv(gru_kernel.VARIABLE, raising=False)
    for function in (load_kernel, say_that_kernel_is_missing):
        function.cache_clear()
    yield monkeypatch
    for function in (load_kernel, say_that_kernel_is_missing):
        function.cache_clear()


def values_and_gradients(
    layer: ResettableGRU, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor, weights: th.Tensor
) -> list[th.Tensor]:
    """Return the hidden states, and the gradients of all tensors on which they depend."""
    variables = [inputs.detach().requires_grad_(), hidden.detach().requires_grad_()]
    memories = layer(*variables, resets)
    return [memories, *th.autograd.grad((memories * weights).sum(), [*variables, *layer.parameters()])]


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 9),
    batch=st.integers(1, 19),
    hidden_size=st.integers(1, 70),
    input_size=st.integers(1, 5),
    reset_probability=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    scale=st.sampled_from([0.3, 1.0, 5.0]),
    seed=st.integers(0, 2**31),
)
def test_equals_pytorch_in_double_precision(
    kernel: GRUKernel,
    length: int,
    batch: int,
    hidden_size: int,
    input_size: int,
    reset_probability: float,
    scale: float,
    seed: int,
) -> None:
    th.manual_seed(seed)
    layer = ResettableGRU(input_size, hidden_size)
    inputs, hidden = scale * th.randn(length, batch, input_size), th.randn(batch, hidden_size)
    resets, weights = th.rand(length, batch) < reset_probability, th.randn(length, batch, hidden_size)
    with mock.patch("sb3_lwm.common.gru.kernel_for", return_value=kernel):
        results = values_and_gradients(layer, inputs, hidden, resets, weights)
        with th.no_grad():
            memories = layer(inputs, hidden, resets)
    expected = values_and_gradients(layer.double(), inputs.double(), hidden.double(), resets, weights.double())
    for result, exact in zip(results, expected, strict=True):
        th.testing.assert_close(result, exact.float(), rtol=1e-5, atol=1e-5)
    if length > 1:
        # a single step without gradient is one call of PyTorch's cell
        assert th.equal(memories, results[0])


def test_sizes_around_those_of_vectors_and_tiles(kernel: GRUKernel) -> None:
    for size in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65):
        for batch in (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17):
            th.manual_seed(size * batch)
            layer = ResettableGRU(2, size)
            case = th.randn(3, batch, 2), th.randn(batch, size), th.rand(3, batch) < 0.3, th.randn(3, batch, size)
            with mock.patch("sb3_lwm.common.gru.kernel_for", return_value=kernel):
                results = values_and_gradients(layer, *case)
            with mock.patch("sb3_lwm.common.gru.kernel_for", return_value=None):
                expected = values_and_gradients(layer, *case)
            for result, other in zip(results, expected, strict=True):
                th.testing.assert_close(result, other, rtol=1e-5, atol=1e-5)


def test_tensors_that_are_not_contiguous(kernel: GRUKernel) -> None:
    th.manual_seed(0)
    layer = ResettableGRU(3, 20)
    inputs, hidden = th.randn(6, 5, 3).transpose(0, 1), th.randn(20, 6).t()
    resets, weights = (th.rand(6, 5) < 0.3).t(), th.randn(6, 5, 20).transpose(0, 1)
    with mock.patch("sb3_lwm.common.gru.kernel_for", return_value=kernel):
        results = values_and_gradients(layer, inputs, hidden, resets, weights)
        copies = values_and_gradients(layer, *(part.contiguous() for part in (inputs, hidden, resets, weights)))
    for result, other in zip(results, copies, strict=True):
        assert th.equal(result, other)


def test_functions_are_exact_to_a_millionth(kernel: GRUKernel) -> None:
    tiny = th.logspace(-30, 0, 20_001)
    values = th.cat((th.linspace(-87.0, 87.0, 400_001), tiny, -tiny))
    exps, tanhs, _ = kernel.functions(values)
    _, _, sigmoids = kernel.functions(values.clamp(-43.0, 43.0))
    exact = values.double()
    for result, expected in (
        (exps, exact.exp()),
        (tanhs, exact.tanh()),
        (sigmoids, exact.clamp(-43.0, 43.0).sigmoid()),
    ):
        assert ((result - expected).abs() <= 1e-6 * expected.abs()).all()


def test_functions_of_extreme_values(kernel: GRUKernel) -> None:
    _, tanhs, sigmoids = kernel.functions(th.tensor([float("inf"), -float("inf"), 1e30, -1e30, float("nan"), 0.0]))
    assert tanhs[:4].tolist() == [1.0, -1.0, 1.0, -1.0] and tanhs[5] == 0.0
    assert sigmoids[:4].tolist() == pytest.approx([1.0, 0.0, 1.0, 0.0], abs=1e-18) and sigmoids[5] == 0.5
    # the guard against numbers that are not finite must see them
    assert tanhs[4].isnan() and sigmoids[4].isnan()


def test_numbers_that_are_not_finite_reach_the_memories_of_their_sequence_only(kernel: GRUKernel) -> None:
    layer, inputs = ResettableGRU(3, 20), th.randn(4, 9, 3)
    inputs[1, 2, 0] = float("nan")
    with th.no_grad(), mock.patch("sb3_lwm.common.gru.kernel_for", return_value=kernel):
        memories = layer(inputs, th.zeros(9, 20), th.zeros(4, 9, dtype=th.bool))
    assert memories[1:, 2].isnan().all()
    assert memories[:1].isfinite().all() and memories[:, [0, 1, 3, 8]].isfinite().all()


def test_multiplications_are_counted(kernel: GRUKernel) -> None:
    assert kernel.multiply_and_add(2000) == 2 * kernel.multiply_and_add(1000) > 0


# --- When it is used ---


def test_gpus_other_precisions_and_traces_are_left_to_pytorch(unloaded: pytest.MonkeyPatch) -> None:
    unloaded.setattr(gru_kernel, "load_kernel", lambda: "kernel")
    assert kernel_for(th.zeros(1)) == "kernel"
    assert kernel_for(th.zeros(1, dtype=th.float64)) is None
    assert kernel_for(th.zeros(1, dtype=th.bfloat16)) is None
    assert kernel_for(th.zeros(1, device="meta")) is None
    with th.autocast("cpu", dtype=th.bfloat16):
        # products inside would have half the bytes that the kernel reads
        assert kernel_for(th.zeros(1)) is None
    # what the kernel writes would be missing in a trace
    unloaded.setattr(th.jit, "is_tracing", lambda: True)
    assert kernel_for(th.zeros(1)) is None


def test_environment_variable_switches_it_off_or_chooses_a_level(unloaded: pytest.MonkeyPatch) -> None:
    for value, level in (("0", None), ("baseline", "baseline"), *((level, level) for level in levels())):
        unloaded.setenv(gru_kernel.VARIABLE, value)
        load_kernel.cache_clear()
        kernel = load_kernel()
        assert (None if kernel is None else kernel.level) == level
    for value in ("avx1024", "true"):
        unloaded.setenv(gru_kernel.VARIABLE, value)
        load_kernel.cache_clear()
        with pytest.raises(ValueError, match=f"SB3_LWM_KERNEL={value}: this processor has baseline"):
            load_kernel()


def learn(verbose: int) -> None:
    LWMDQN("MlpPolicy", "POL-3x3-v0", verbose=verbose, **SHORT).learn(4)


def test_missing_library_is_said_once(unloaded: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    unloaded.setattr(gru_kernel, "LIBRARY", LIBRARY.with_name("nowhere.so"))
    learn(verbose=0)
    assert "compiled GRU" not in capsys.readouterr().out
    learn(verbose=1)
    learn(verbose=1)
    assert capsys.readouterr().out.count("The compiled GRU is missing") == 1


@pytest.mark.parametrize("is_switched_off", [False, True])
def test_nothing_is_said_if_it_is_there_or_not_wanted(
    unloaded: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_switched_off: bool
) -> None:
    unloaded.setattr(gru_kernel, "load_kernel", lambda: None if is_switched_off else "kernel")
    if is_switched_off:
        unloaded.setenv(gru_kernel.VARIABLE, "0")
    say_that_kernel_is_missing()
    assert capsys.readouterr().out == ""
