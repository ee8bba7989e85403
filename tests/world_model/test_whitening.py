"""Whitening: unit covariance, invariance, closed forms of small batches, and batches that cannot be whitened."""

import math

import pytest
import torch as th

from sb3_lwm.world_model.whitening import whiten


def regular_batch(n_samples: int = 200, n_dimensions: int = 5, seed: int = 0) -> th.Tensor:
    """Return correlated dimensions of different sizes around a mean that is not zero, (N, Z) float."""
    generator = th.Generator().manual_seed(seed)
    mixing = th.randn(n_dimensions, n_dimensions, generator=generator) + 2.0 * th.eye(n_dimensions)
    return th.randn(n_samples, n_dimensions, generator=generator) @ mixing + th.linspace(-3.0, 40.0, n_dimensions)


def pair_loss(embeddings: th.Tensor) -> th.Tensor:
    """Return the mean squared distance between the first and the second half, whitened together."""
    first, second = whiten(embeddings)[0].chunk(2)
    return (first - second).square().mean()


# --- Regular batches ---


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_unit_covariance_without_noise(scale: float) -> None:
    # float64 leaves no rounding to hide in: noise of 1e-3 of the variance would be seen
    whitened, ill_conditioned = whiten(scale * regular_batch().double())
    th.testing.assert_close(whitened.mean(dim=0), th.zeros(5, dtype=th.float64), rtol=0.0, atol=1e-9)
    th.testing.assert_close(th.cov(whitened.t()), th.eye(5, dtype=th.float64), rtol=0.0, atol=1e-9)
    assert not ill_conditioned


def test_unit_covariance_of_single_precision() -> None:
    whitened, ill_conditioned = whiten(regular_batch(512, 32))
    th.testing.assert_close(th.cov(whitened.t()), th.eye(32), rtol=0.0, atol=1e-2)
    assert not ill_conditioned and whitened.dtype == th.float32


def test_one_dimension_is_standardised() -> None:
    # mean 2, variance (1 + 1 + 4) / 2
    whitened = whiten(th.tensor([[1.0], [1.0], [4.0]]))[0]
    th.testing.assert_close(whitened, th.tensor([[-1.0], [-1.0], [2.0]]) / math.sqrt(3.0))


def test_two_dimensions_by_hand() -> None:
    embeddings = th.tensor([[2.0, 4.0], [-2.0, 0.0], [0.0, -4.0], [0.0, 0.0]], dtype=th.float64)
    # mean 0; C = [[8, 8], [8, 32]] / 3 = L L^T with L = [[s, 0], [s, sqrt(8)]], s = sqrt(8 / 3)
    factor = th.tensor([[math.sqrt(8 / 3), 0.0], [math.sqrt(8 / 3), math.sqrt(8.0)]], dtype=th.float64)
    th.testing.assert_close(whiten(embeddings)[0] @ factor.t(), embeddings)


def test_an_affine_map_of_the_embeddings_does_not_change_the_loss() -> None:
    embeddings = regular_batch().double()
    mixing = th.randn(5, 5, generator=th.Generator().manual_seed(1)).double()
    loss = pair_loss(embeddings)
    th.testing.assert_close(pair_loss(embeddings @ mixing + 7.0), loss)
    # not only because every loss is the same
    assert not th.isclose(pair_loss(embeddings.square()), loss, rtol=1e-3)


def test_gradient_is_that_of_finite_differences() -> None:
    embeddings = regular_batch(8, 3).double().requires_grad_()
    assert th.autograd.gradcheck(lambda values: whiten(values)[0], embeddings)


# --- Batches that cannot be whitened as they are ---

ILL_CONDITIONED = {
    "zero": th.zeros(16, 4),
    "one frame over and over": th.tensor([[0.3, -1.2, 7.0, 1e-3]]).expand(16, 4),
    "equal but for rounding errors": 5.0 + 1e-6 * regular_batch(16, 4),
    "fewer samples than dimensions": regular_batch(4, 6),
    "two samples": regular_batch(2, 3),
    "equal dimensions": regular_batch(16, 1).expand(16, 4),
    "a dead dimension": regular_batch(16, 4) * th.tensor([1.0, 1.0, 0.0, 1.0]),
    "huge, equal dimensions": 1e15 * regular_batch(16, 1).expand(16, 4),
}


@pytest.mark.parametrize("name", ILL_CONDITIONED)
def test_degenerate_batches_are_reported_and_finite(name: str) -> None:
    embeddings = ILL_CONDITIONED[name].clone().requires_grad_()
    whitened, ill_conditioned = whiten(embeddings)
    assert ill_conditioned
    weights = th.linspace(-1.0, 2.0, whitened.numel()).view_as(whitened)
    ((whitened - weights).square()).mean().backward()
    assert whitened.isfinite().all() and embeddings.grad is not None and embeddings.grad.isfinite().all()
    # no direction gets more than its own variance, rounding errors are not blown up
    assert th.linalg.eigvalsh(th.cov(whitened.detach().t())).max() <= 1.01


def test_equal_embeddings_have_no_loss_and_a_finite_gradient() -> None:
    embeddings = ILL_CONDITIONED["one frame over and over"].clone().requires_grad_()
    loss = pair_loss(embeddings)
    loss.backward()
    assert loss < 1e-3 and embeddings.grad is not None and embeddings.grad.abs().max() < 1.0


def test_a_regular_batch_after_a_degenerate_one_is_exact() -> None:
    whiten(th.zeros(16, 4))
    assert not whiten(regular_batch())[1]


def test_no_covariance_of_one_embedding() -> None:
    with pytest.raises(ValueError, match="at least 2 embeddings, got 1"):
        whiten(th.zeros(1, 4))


def test_whitening_does_not_wait_for_the_device() -> None:
    # a meta tensor has no values: to look at one raises
    whitened, ill_conditioned = whiten(th.zeros(16, 4, device="meta", requires_grad=True))
    whitened.sum().backward()
    assert (whitened.shape, ill_conditioned.shape) == ((16, 4), ())
    with pytest.raises(RuntimeError):
        bool(ill_conditioned)
