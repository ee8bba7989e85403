"""Running statistics as buffers, which are saved, loaded and moved between devices with the model's weights."""

from typing import Any

import torch as th
from torch import nn

# The averages of the standard deviation of the prediction errors
NORMALIZERS = ("moving", "long-run")
# Single precision can represent the sum of the squares of millions of values of this size
LARGEST_VALUE = 1e16


class IntrinsicRewardNormalizer(nn.Module):
    """
    ``r = scale * clip((e - mu) / sigma, -clip, clip)`` of prediction errors ``e`` (LWM, section 4.3).

    ``mu`` and ``sigma`` are exponential averages of the mean and the standard deviation of each training batch, first set
    by the first batch. Before that the reward is 0. With ``kind="long-run"`` ``sigma`` is the average over all training
    batches so far, so that the rewards shrink with the errors (as those of RND, Burda et al. 2019, section 2.4).

    :param scale: The factor of the normalised errors
    :param clip: The bound of the normalised errors, in standard deviations; None for no clipping
    :param momentum: The weight of the old average, in [0, 1)
    :param kind: The average of the standard deviation, ``"moving"`` or ``"long-run"``
    :param forgets_start: Whether the ``n``-th batch weighs at least ``2 / (n + 1)``, so that the large errors of an untrained
        world model, which the momentum alone would keep for many batches, are soon forgotten (polynomial-decay averaging,
        Shamir and Zhang 2013, with eta = 1)
    :raises ValueError: If the kind does not exist
    """

    mean: th.Tensor
    std: th.Tensor
    initialized: th.Tensor
    n_batches: th.Tensor

    def __init__(
        self, scale: float, clip: float | None, momentum: float, kind: str = "moving", forgets_start: bool = False
    ) -> None:
        super().__init__()
        if kind not in NORMALIZERS:
            raise ValueError(f"intrinsic_reward_normalizer={kind!r}: use one of {', '.join(map(repr, NORMALIZERS))}.")
        self.scale = scale
        self.clip = clip
        self.momentum = momentum
        self.is_long_run = kind == "long-run"
        self.forgets_start = forgets_start
        self.register_buffer("mean", th.zeros(()))
        self.register_buffer("std", th.ones(()))
        # 1 after the first batch; float like SB3's other weights
        self.register_buffer("initialized", th.zeros(()))
        if self.is_long_run or forgets_start:
            self.register_buffer("n_batches", th.zeros(()))

    def update(self, errors: th.Tensor, counted: th.Tensor | None = None) -> None:
        """
        Update the averages by a training batch. A batch of a single error has no deviation and is ignored. No value is read
        back from a GPU.

        :param errors: The prediction errors, float of any shape
        :param counted: Whether each error counts, bool of the same shape; by default all count
        """
        counted = th.ones_like(errors) if counted is None else counted.to(errors.dtype)
        count = counted.sum()
        mean = (errors * counted).sum() / count.clamp(min=1.0)
        variance = ((errors - mean).square() * counted).sum() / (count - 1.0).clamp(min=1.0)
        momentum = self.momentum * self.initialized
        is_batch = (count > 1.0).to(self.initialized.dtype)
        weight = is_batch * (1.0 - momentum)
        if self.is_long_run or self.forgets_start:
            self.n_batches += is_batch
        if self.forgets_start:
            weight = th.maximum(weight, is_batch * 2.0 / (self.n_batches + 1.0).clamp(min=2.0))
        self.mean.lerp_(mean, weight)
        if self.is_long_run:
            weight = is_batch / self.n_batches.clamp(min=1.0)
        self.std.lerp_(variance.sqrt(), weight)
        self.initialized.clamp_(min=is_batch)

    def restart(self) -> None:
        """Replace the averages by those of the next batch, as for the first batch."""
        self.initialized.zero_()
        if self.is_long_run or self.forgets_start:
            self.n_batches.zero_()

    def forward(self, errors: th.Tensor) -> th.Tensor:
        """
        :param errors: The prediction errors, float of any shape
        :return: The intrinsic rewards, of the same shape
        """
        rewards = (errors - self.mean) / self.std.clamp(min=1e-8)
        if self.clip is not None:
            rewards = rewards.clamp(-self.clip, self.clip)
        return self.scale * rewards * self.initialized


class RunningStandardizer(nn.Module):
    """
    Standardises real-valued observations by their mean and variance so far (Chan et al. 1979, as in VecNormalize). Values
    are clipped to 1e16 in magnitude, since the sum of their squares would overflow in single precision.

    :param size: The number of dimensions
    :param clip: The bound of the results, in standard deviations
    """

    mean: th.Tensor
    variance: th.Tensor
    count: th.Tensor
    count_rest: th.Tensor

    def __init__(self, size: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", th.zeros(size))
        self.register_buffer("variance", th.ones(size))
        # the count, and the part of it that single precision cannot add; some devices (MPS) have no double precision
        self.register_buffer("count", th.zeros(()))
        self.register_buffer("count_rest", th.zeros(()))

    def update(self, values: th.Tensor) -> None:
        """:param values: A training batch, (N, size) float"""
        values = values.clamp(-LARGEST_VALUE, LARGEST_VALUE)
        mean = values.mean(dim=0)
        # two passes, because th.var_mean is many times slower; the subtraction first avoids large squares
        variance = values.sub_(mean).square_().mean(dim=0)
        self._add_to_count(len(values))
        weight = len(values) / self.count
        shift = mean - self.mean
        self.variance.lerp_(variance, weight).add_(shift.square() * weight * (1.0 - weight))
        self.mean.lerp_(mean, weight)

    def _add_to_count(self, n_values: int) -> None:
        """Add to the count exactly (compensated summation, Kahan 1965)."""
        self.count_rest += n_values
        total = self.count + self.count_rest
        self.count_rest -= total - self.count
        self.count.copy_(total)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        count = state_dict.get(f"{prefix}count")
        if count is not None and f"{prefix}count_rest" not in state_dict:
            # saved by a version with a count in double precision
            state_dict[f"{prefix}count_rest"] = count - count.float()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, values: th.Tensor) -> th.Tensor:
        """
        :param values: The observations, (..., size) float
        :return: The standardised values, of the same shape
        """
        # a copy, which the following operations change in place
        values = values.clamp(-LARGEST_VALUE, LARGEST_VALUE)
        return values.sub_(self.mean).div_(th.sqrt(self.variance + 1e-8)).clamp_(-self.clip, self.clip)
