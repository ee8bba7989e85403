"""Whitening of a batch of embeddings, which prevents a collapse of W-MSE's encoder to a single point."""

import torch as th

# A batch is ill-conditioned if a deviation is below this many rounding errors of the embeddings, or the variance that the
# dimensions before do not explain is below this many rounding errors of the dimension's own variance.
ROUNDING_ERRORS = 100.0
# The noise that is then added to the covariance, relative to the mean variance and to the mean square of the embeddings. The
# second is far above the rounding errors of equal embeddings, which would otherwise be scaled to unit variance.
VARIANCE_JITTER = 1e-3
SQUARE_JITTER = 1e-6
# The noise for embeddings that are all zero
ABSOLUTE_JITTER = 1e-12


def whiten(embeddings: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Transform a batch to zero mean and unit covariance: ``L^-1 (z - mean)`` with the Cholesky factor ``C = L L^T`` of its
    covariance (Ermolov et al. 2021, "Whitening for Self-Supervised Representation Learning", section 3; LWM, section 4.1).

    A batch whose covariance has no usable factor (black screens, copies of one frame, fewer samples than dimensions) is
    whitened with a little noise added to the covariance, so that its result and its gradient are finite. A regular batch is
    whitened exactly. The function never waits for the device.

    :param embeddings: The embeddings, (N, Z) float, ``N >= 2``
    :return: The whitened embeddings, (N, Z) float, and whether noise was added, bool of shape ()
    :raises ValueError: If there are fewer than two embeddings
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
    # not cholesky(), which reads its result back, so that the host waits for the device
    identity = th.eye(n_dimensions, dtype=covariance.dtype, device=covariance.device)
    factor = th.linalg.cholesky_ex(covariance + jitter * identity).L
    return th.linalg.solve_triangular(factor, centred.t(), upper=False).t(), ill_conditioned


def _is_ill_conditioned(covariance: th.Tensor, squares: th.Tensor) -> th.Tensor:
    """Return whether the covariance has no Cholesky factor, or only one of rounding errors, bool of shape ()."""
    factor, info = th.linalg.cholesky_ex(covariance)
    # the square of a pivot is the variance that the dimensions before do not explain
    own_variance = factor.diagonal().square()
    precision = ROUNDING_ERRORS * th.finfo(covariance.dtype).eps
    # negated, so that NaN also counts as ill-conditioned
    return (info != 0) | ~(own_variance > precision * covariance.diagonal() + precision**2 * squares).all()
