"""Running statistics against NumPy: the normaliser of the intrinsic reward, and the standardiser of observations."""

import numpy as np
import pytest
import torch as th

from sb3_lwm.world_model.normalizer import IntrinsicRewardNormalizer, RunningStandardizer


def make_normalizer(scale: float = 1.0, clip: float | None = None, momentum: float = 0.99) -> IntrinsicRewardNormalizer:
    return IntrinsicRewardNormalizer(scale, clip, momentum)


# --- Intrinsic reward ---


@pytest.mark.parametrize(("scale", "clip", "momentum"), [(1.0, None, 0.99), (0.3, 1.5, 0.9), (2.0, 0.5, 0.0)])
def test_normalizer_against_numpy(scale: float, clip: float | None, momentum: float) -> None:
    rng = np.random.default_rng(0)
    normalizer = make_normalizer(scale, clip, momentum)
    mean = std = None
    for size in (50, 3, 200, 2, 64):
        errors = rng.gamma(2.0, 0.1 * size, size).astype(np.float32)
        # the first batch sets the averages
        mean = errors.mean() if mean is None else momentum * mean + (1.0 - momentum) * errors.mean()
        std = errors.std(ddof=1) if std is None else momentum * std + (1.0 - momentum) * errors.std(ddof=1)
        normalizer.update(th.as_tensor(errors))
        bound = np.inf if clip is None else clip
        others = rng.gamma(2.0, 5.0, (4, 30)).astype(np.float32)
        normalized = (others - mean) / std
        rewards = normalizer(th.as_tensor(others))
        np.testing.assert_allclose(rewards, scale * np.clip(normalized, -bound, bound), rtol=1e-4, atol=1e-5)
        if clip is not None:
            assert np.abs(normalized).max() > clip, "the bound is tried"


def test_the_long_run_deviation_is_the_mean_over_all_batches() -> None:
    normalizer = IntrinsicRewardNormalizer(1.0, None, 0.5, "long-run")
    batches = [th.tensor([0.0, 4.0]), th.tensor([1.0, 2.0]), th.tensor([1.0, 1.0])]
    for batch in batches:
        normalizer.update(batch)
    # the mean moves: 2, then 1.75, then 1.375
    assert normalizer.mean.item() == pytest.approx(1.375)
    assert normalizer.std.item() == pytest.approx((4.0 + 1.0 + 0.0) / 2**0.5 / 3)
    normalizer.restart()
    normalizer.update(th.tensor([0.0, 2.0]))
    assert normalizer.std.item() == pytest.approx(2**0.5)


def test_the_start_is_forgotten_by_weights_of_two_in_n_plus_one() -> None:
    normalizer = IntrinsicRewardNormalizer(1.0, None, 0.5, forgets_start=True)
    means = []
    for value in (8.0, 2.0, 4.0, 0.0):
        normalizer.update(th.tensor([value - 1.0, value + 1.0]))
        means.append(normalizer.mean.item())
    # weights 1, 2/3, 2/4, and then 1 - momentum = 1/2, which is more than 2/5
    assert means == pytest.approx([8.0, 4.0, 4.0, 2.0])
    assert normalizer.std.item() == pytest.approx(2.0**0.5)
    normalizer.restart()
    normalizer.update(th.tensor([5.0, 7.0]))
    assert normalizer.mean.item() == pytest.approx(6.0)


def test_the_long_run_deviation_passes_over_a_batch_of_one() -> None:
    normalizer = IntrinsicRewardNormalizer(1.0, None, 0.5, "long-run")
    normalizer.update(th.tensor([0.0, 2.0]))
    normalizer.update(th.tensor([5.0]))
    assert normalizer.std.item() == pytest.approx(2**0.5)


def test_reward_is_zero_before_the_first_batch_and_with_scale_zero() -> None:
    errors = th.tensor([0.0, 0.5, 1e6])
    assert make_normalizer()(errors).tolist() == [0.0, 0.0, 0.0]
    switched_off = make_normalizer(scale=0.0)
    switched_off.update(errors)
    assert switched_off(errors).tolist() == [0.0, 0.0, 0.0]


def test_rewards_are_finite_after_equal_errors() -> None:
    normalizer = make_normalizer()
    normalizer.update(th.full((8,), 0.25))
    # no deviation at all: the reward of the mean is 0, all others are finite
    assert normalizer(th.tensor(0.25)).item() == 0.0
    assert th.isfinite(normalizer(th.tensor([0.0, 1.0]))).all()


def test_normalizer_counts_selected_errors_and_restarts() -> None:
    normalizer = make_normalizer(momentum=0.5)
    errors, counted = th.tensor([1.0, 3.0, 100.0]), th.tensor([True, True, False])
    normalizer.update(errors, counted)
    assert (normalizer.mean.item(), normalizer.std.item()) == (2.0, pytest.approx(2**0.5))
    # one error has no deviation, none has no mean
    normalizer.update(errors, th.tensor([False, False, True]))
    normalizer.update(errors, th.tensor([False, False, False]))
    assert normalizer.mean.item() == 2.0
    normalizer.restart()
    assert normalizer(errors).tolist() == [0.0, 0.0, 0.0]
    normalizer.update(th.tensor([10.0, 12.0]))
    assert normalizer.mean.item() == 11.0


# --- Standardised observations ---


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_standardizer_against_numpy(offset: float) -> None:
    rng = np.random.default_rng(1)
    standardizer = RunningStandardizer(3)
    seen = np.zeros((0, 3))
    for size in (5, 1, 300, 40):
        # every batch of another mean and another spread
        batch = rng.normal(rng.normal(0.0, 2.0, 3) + offset, [0.5, 1.0, 4.0], (size, 3)).astype(np.float32)
        standardizer.update(th.as_tensor(batch))
        seen = np.concatenate((seen, batch))
        np.testing.assert_allclose(standardizer.mean, seen.mean(axis=0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(standardizer.variance, seen.var(axis=0), rtol=1e-3, atol=1e-6)
    assert standardizer.count.item() == 346
    expected = np.clip((seen - seen.mean(axis=0)) / seen.std(axis=0), -10.0, 10.0)
    np.testing.assert_allclose(standardizer(th.as_tensor(seen, dtype=th.float32)), expected, rtol=1e-2, atol=1e-2)


def test_standardizer_clips_its_output() -> None:
    standardizer = RunningStandardizer(2)
    # before any data observations pass as they are
    assert standardizer(th.tensor([[2.0, -30.0]])).tolist() == [pytest.approx([2.0, -10.0])]
    # the second dimension never changes: it is 0, and no division by 0
    standardizer.update(th.tensor([[-1.0, 7.0], [1.0, 7.0]]))
    assert standardizer(th.tensor([[1.0, 7.0], [-1e6, 8.0]])).tolist() == [pytest.approx([1.0, 0.0]), [-10.0, 10.0]]
