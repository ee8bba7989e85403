"""The guard against numbers that are not finite."""

import numpy as np
import pytest
import torch as th

from sb3_lwm.common.finite_guard import FiniteGuard, NonFiniteError


def make_guard() -> FiniteGuard:
    return FiniteGuard(lambda: "(here)")


def test_backward_clips_the_norm_and_returns_that_before() -> None:
    parameter = th.nn.Parameter(th.zeros(2))
    optimizer = th.optim.SGD([parameter], lr=1.0)
    for max_norm, expected in ((None, [3.0, 4.0]), (10.0, [3.0, 4.0]), (1.0, [0.6, 0.8])):
        norm = make_guard().backward(
            optimizer, (parameter * th.tensor([3.0, 4.0])).sum(), "network", "do less", max_norm=max_norm
        )
        assert norm.item() == 5.0 and parameter.grad is not None
        # not the sum of two calls
        assert parameter.grad.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_is_refused_at_once_on_the_cpu(value: float) -> None:
    parameter = th.nn.Parameter(th.ones(3))
    optimizer = th.optim.SGD([parameter], lr=1.0)
    with pytest.raises(NonFiniteError, match=rf"The network's loss is {value}: do less\. \(here\)"):
        make_guard().backward(optimizer, (parameter * value).sum(), "network", "do less")
    # a finite loss with an infinite gradient
    with pytest.raises(NonFiniteError, match=r"The network's gradient's norm is inf: do less\. \(here\)"):
        make_guard().backward(optimizer, (parameter - 1.0).sqrt().sum(), "network", "do less")


def test_bad_update_on_a_gpu_is_skipped_and_refused_later(monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = th.nn.Parameter(th.ones(3))
    optimizer = th.optim.SGD([parameter], lr=1.0)
    guard = make_guard()
    # the CPU in place of another device
    monkeypatch.setattr("sb3_lwm.common.finite_guard.HOST", "nowhere")
    guard.backward(optimizer, (parameter * float("inf")).sum(), "network", "do less")
    optimizer.step()
    assert parameter.tolist() == [1.0, 1.0, 1.0]
    guard.backward(optimizer, parameter.sum(), "network", "do less")
    with pytest.raises(NonFiniteError, match=r"The network's loss is not finite: do less. \(here\)"):
        guard.read()
    guard.read()


def test_step_that_is_not_finite_names_part_and_environment() -> None:
    guard = make_guard()
    rewards, vectors = np.zeros(3), np.zeros((3, 2), dtype=np.float32)
    guard.check_step({"vector": vectors, "room": np.zeros(3, dtype=np.int64)}, rewards)
    vectors[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"The vector of environment 2 is not finite: \[ 0\. nan\]\. Mend.* \(here\)"):
        guard.check_step({"room": np.zeros(3, dtype=np.int64), "vector": vectors}, rewards)
    rewards[1] = -np.inf
    with pytest.raises(NonFiniteError, match=r"The reward of environment 1 is not finite: -inf"):
        guard.check_step(np.zeros((3, 2)), rewards)
