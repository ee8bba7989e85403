"""Whitening of a batch of embeddings, which keeps W-MSE's encoder from mapping everything onto one point."""

import torch as th

# Deviations below this many rounding errors of the embeddings, and variances below as many of the dimension's own
# variance (where it is nearly a linear function of the dimensions before), cannot be told from rounding errors.
ROUNDING_ERRORS = 100.0
# Added to the covariance then, in shares of the mean variance and of the mean square of the embeddings. The second is far
# above the rounding errors of embeddings that are all alike, which would otherwise be blown up to unit variance.
VARIANCE_JITTER = 1e-3
SQUARE_JITTER = 1e-6
# and for embeddings that are all zero
ABSOLUTE_JITTER = 1e-12


def whiten(embeddings: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Give a batch zero mean and unit covariance: ``L^-1 (z - mean)`` with the Cholesky factor ``C = L L^T`` of its covariance
    (Ermolov et al. 2021, "Whitening for Self-Supervised Representation Learning", section 3; LWM, section 4.1).

    A batch whose covariance has no usable factor (a screen that is black, one frame over and over, fewer samples than
    dimensions) is whitened with a little noise added to the covariance: its result and its gradient are finite. A regular
    batch is whitened exactly. Nothing here waits for the device.

    :param embeddings: (N, Z) float, ``N >= 2``
    :return: (N, Z) float whitened embeddings; () bool, whether noise was needed
    :raises ValueError: if there are fewer than two embeddings
    """
    n_samples, n_dimensions = embeddings.shape
    if n_samples < 2:
        raise ValueError(f"A covariance needs at least 2 embeddings, got {n_samples}: enlarge the encoder's batch size.")
    centred = embeddings - embeddings.mean(dim=0)
    covariance = centred.t() @ centred / (n_samples - 1)
    squares = embeddings.detach().square().mean(dim=0)
    ill_conditioned = _is_ill_conditioned(covariance.detach(), squares)
    jitter = VARIANCE_JITTER * covariance.detach().diagonal().mean() + SQUARE_JITTER * squares.mean() + ABSOLUTE_JITTER
    jitter = th.where(ill_conditioned, jitter, 0.0)
    # never cholesky(): it looks at the result, which makes the host wait for the device
    identity = th.eye(n_dimensions, dtype=covariance.dtype, device=covariance.device)
    factor = th.linalg.cholesky_ex(covariance + jitter * identity).L
    return th.linalg.solve_triangular(factor, centred.t(), upper=False).t(), ill_conditioned


def _is_ill_conditioned(covariance: th.Tensor, squares: th.Tensor) -> th.Tensor:
    """Return () bool, whether the covariance has no Cholesky factor, or one that is made of rounding errors."""
    factor, info = th.linalg.cholesky_ex(covariance)
    # the square of a pivot is the variance that the dimensions before do not explain
    own_variance = factor.diagonal().square()
    precision = ROUNDING_ERRORS * th.finfo(covariance.dtype).eps
    # negated, so that NaN counts as ill, too
    return (info != 0) | ~(own_variance > precision * covariance.diagonal() + precision**2 * squares).all()
