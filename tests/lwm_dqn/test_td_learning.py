"""Temporal-difference learning against tables worked out by hand and against plain loops over Python floats."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.lwm_dqn.td_learning import (
    double_q_values,
    n_step_returns,
    q_learning_errors,
    rescale_value,
    sequence_priorities,
    unrescale_value,
)

# Half the future: every return below is a sum one can do in the head
GAMMA = 0.5
REWARDS = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
VALUES = [100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0]

# The same six rows, with a final row at row 2. A final row has no reward of its own; 77 would show if it were used.
CUT_REWARDS = [1.0, 2.0, 77.0, 8.0, 16.0, 32.0]
NO_CUT, CUT = [False] * 6, [False, False, True, False, False, False]


def column(values: list) -> th.Tensor:
    """Return (T, 1) rows of one environment, with integers and floats as float64."""
    tensor = th.tensor(values)
    return (tensor if tensor.dtype == th.bool else tensor.double()).unsqueeze(1)


TABLES = {
    # no end: 1 + .5*200, 2 + .5*400, 4 + .5*800, 8 + .5*1600, 16 + .5*3200
    "1 step": (1, REWARDS, NO_CUT, NO_CUT, [101.0, 202.0, 404.0, 808.0, 1616.0]),
    # 1 + 2/2 + 4/4 + 800/8 = 103; 2 + 4/2 + 8/4 + 1600/8 = 206; 4 + 8/2 + 16/4 + 3200/8 = 412
    "3 steps": (3, REWARDS, NO_CUT, NO_CUT, [103.0, 206.0, 412.0]),
    # 1 + 2/2 + 4/4 + 8/8 + 16/16 + 3200/32 = 105
    "5 steps": (5, REWARDS, NO_CUT, NO_CUT, [105.0]),
    # terminated at row 2: row 1 is worth its reward alone; rows 3, 4 are of the next episode and see nothing of it
    "1 step, terminated": (1, CUT_REWARDS, CUT, CUT, [101.0, 2.0, None, 808.0, 1616.0]),
    # row 0: 1 + 2/2; row 1: 2
    "3 steps, terminated": (3, CUT_REWARDS, CUT, CUT, [2.0, 2.0, None]),
    "5 steps, terminated": (5, CUT_REWARDS, CUT, CUT, [2.0]),
    # out of time at row 2, whose observation is worth 400: row 1 is 2 + 400/2, row 0 is 1 + 2/2 + 400/4
    "1 step, out of time": (1, CUT_REWARDS, CUT, NO_CUT, [101.0, 202.0, None, 808.0, 1616.0]),
    "3 steps, out of time": (3, CUT_REWARDS, CUT, NO_CUT, [102.0, 202.0, None]),
    "5 steps, out of time": (5, CUT_REWARDS, CUT, NO_CUT, [102.0]),
    # the end lies exactly n steps ahead, where the bootstrap is
    "2 steps, terminated at the bootstrap": (2, CUT_REWARDS, CUT, CUT, [2.0, 2.0, None, 8 + 16 / 2 + 3200 / 4]),
    "2 steps, out of time at the bootstrap": (2, CUT_REWARDS, CUT, NO_CUT, [102.0, 202.0, None, 8 + 16 / 2 + 3200 / 4]),
    # two ends inside one window: the nearer one counts
    "3 steps, two ends": (3, REWARDS, [False, True, False, True, False, True], [False, True, *NO_CUT[2:]], [1.0, None, 404.0]),
}


@pytest.mark.parametrize("name", TABLES)
def test_n_step_returns_by_hand(name: str) -> None:
    n_steps, rewards, finals, terminations, expected = TABLES[name]
    returns = n_step_returns(column(rewards), column(VALUES), column(finals), column(terminations), GAMMA, n_steps)
    assert returns.shape == (len(expected), 1)
    compared = [(row.item(), value) for row, value in zip(returns, expected, strict=True) if value is not None]
    assert [row for row, _ in compared] == [value for _, value in compared]


@pytest.mark.parametrize("n_steps", [1, 3, 5])
def test_n_step_returns_against_a_plain_loop(n_steps: int) -> None:
    generator = th.Generator().manual_seed(n_steps)
    length, n_batch, gamma = 40 + n_steps, 6, 0.97
    rewards, values = th.randn(2, length, n_batch, generator=generator, dtype=th.float64)
    # environments from no end at all to every third row
    finals = th.rand(length, n_batch, generator=generator) < th.linspace(0.0, 0.35, n_batch)
    terminations = finals & (th.rand(length, n_batch, generator=generator) < 0.5)
    assert finals.any() and terminations.any() and (finals & ~terminations).any()
    returns = n_step_returns(rewards, values, finals, terminations, gamma, n_steps)
    assert returns.shape == (40, n_batch)

    for env in range(n_batch):
        for start in range(40):
            if finals[start, env]:
                continue
            total, discount, row = 0.0, 1.0, start
            while row < start + n_steps and not finals[row, env]:
                total += discount * rewards[row, env].item()
                discount *= gamma
                row += 1
            if not terminations[row, env]:
                total += discount * values[row, env].item()
            assert returns[start, env].item() == pytest.approx(total, rel=1e-12)


def test_values_after_a_termination_do_not_count() -> None:
    # not even an infinite value behind it may leak through a multiplication by zero
    values = column([1.0, 1.0, math.inf, math.nan, 1.0, 1.0])
    returns = n_step_returns(column(CUT_REWARDS), values, column(CUT), column(CUT), GAMMA, 3)
    assert returns[:2, 0].tolist() == [2.0, 2.0]


def test_double_q_target_with_rescaling_by_hand() -> None:
    # h(3) = 2 - 1 + 0.003, h(8) = 3 - 1 + 0.008, h(15) = 3.015, h(24) = 4.024, h(-3) = -1.003, h(-8) = -2.008
    # rows of (Q, Q_target); Q chooses actions 1, 0, 1, which Q_target values at 3, 24, -8; its own best is another one
    q_values = th.tensor([[[1.0, 2.0]], [[5.0, -5.0]], [[-3.0, -1.0]]], dtype=th.float64)
    target_q_values = th.tensor([[[3.015, 1.003]], [[4.024, 8.0]], [[1.003, -2.008]]], dtype=th.float64)
    values = unrescale_value(double_q_values(q_values, target_q_values))
    assert values[:, 0].tolist() == pytest.approx([3.0, 24.0, -8.0], rel=1e-9)

    rewards, running = column([3.0, 4.0, 9.0]), column([False] * 3)
    # one step: 3 + 24/2 = 15, 4 - 8/2 = 0
    targets = rescale_value(n_step_returns(rewards, values, running, running, GAMMA, 1))
    assert targets[:, 0].tolist() == pytest.approx([3.015, 0.0], abs=1e-9)
    # two steps: 3 + 4/2 - 8/4 = 3
    targets = rescale_value(n_step_returns(rewards, values, running, running, GAMMA, 2))
    assert targets[:, 0].tolist() == pytest.approx([1.003], rel=1e-9)
    # terminated at row 1: 3; out of time there: 3 + 24/2 = 15
    ended = column([False, True, False])
    targets = rescale_value(n_step_returns(rewards, values, ended, ended, GAMMA, 2))
    assert targets[:, 0].tolist() == pytest.approx([1.003], rel=1e-9)
    targets = rescale_value(n_step_returns(rewards, values, ended, running, GAMMA, 2))
    assert targets[:, 0].tolist() == pytest.approx([3.015], rel=1e-9)


def test_double_q_values_by_hand() -> None:
    # the first of equal actions is chosen, as torch's argmax and the acting do
    q_values = th.tensor([[[0.0, 1.0, 0.5], [3.0, 2.0, 1.0]], [[-1.0, -2.0, -0.5], [7.0, 7.0, 0.0]]])
    target_q_values = th.tensor([[[10.0, 11.0, 12.0], [20.0, 21.0, 22.0]], [[30.0, 31.0, 32.0], [40.0, 41.0, 42.0]]])
    assert double_q_values(q_values, target_q_values).tolist() == [[11.0, 20.0], [32.0, 40.0]]


# Four rows that are learned, and one of burn-in before them, whose reward and action would show
Q_VALUES = th.tensor([[[1.0, 2.0]], [[5.0, -5.0]], [[-3.0, -1.0]], [[0.0, 9.0]]])
TARGET_Q_VALUES = th.tensor([[[30.0, 10.0]], [[40.0, 80.0]], [[10.0, -20.0]], [[6.0, 16.0]]])


def make_samples(finals: list[bool] | None = None, terminations: list[bool] | None = None) -> SequenceSamples:
    """Return (5, 1) rows for the Q-values above."""
    flags = {"episode_starts": None, "finals": finals, "terminations": terminations}
    columns: dict[str, Any] = {name: column(values or [False] * 5) for name, values in flags.items()}
    actions, rewards = column([1, 0, 1, 0, 1]).long(), column([1000.0, 3.0, 4.0, 0.0, 7.0]).float()
    zeros, ones = th.zeros(5, 1), th.ones(1)
    return SequenceSamples(
        zeros,
        actions,
        rewards,
        **columns,
        initial_states=None,
        importance_weights=ones,
        sequence_ids=np.zeros(1, dtype=np.int64),
        intrinsic_rewards=zeros,
    )


ROW_3 = [False, False, False, True, False]


@pytest.mark.parametrize(
    ("n_steps", "double_q", "finals", "terminations", "expected"),
    [
        # the choices of Q at rows 2, 3, 4 are worth 40, -20, 16: 1 - (3 + 40/2), -5 - (4 - 20/2), -3 - (0 + 16/2)
        (1, True, None, None, [-22.0, 1.0, -11.0]),
        # those of Q_target itself 80, 10, 16: 1 - (3 + 80/2), -5 - (4 + 10/2)
        (1, False, None, None, [-42.0, -14.0, -11.0]),
        # 1 - (3 + 4/2 - 20/4), -5 - (4 + 0/2 + 16/4)
        (2, True, None, None, [1.0, -13.0]),
        # 1 - (3 + 4/2 + 0/4 + 16/8)
        (3, True, None, None, [-6.0]),
        # row 3 is final, nothing is learned there; terminated: -5 - 4; out of time: -5 - (4 - 20/2) as if it went on
        (1, True, ROW_3, ROW_3, [-22.0, -9.0, 0.0]),
        (1, True, ROW_3, None, [-22.0, 1.0, 0.0]),
        # terminated: 1 - (3 + 4/2); out of time: 1 - (3 + 4/2 - 20/4)
        (3, True, ROW_3, ROW_3, [-4.0]),
        (3, True, ROW_3, None, [1.0]),
    ],
)
def test_q_learning_errors_by_hand(
    n_steps: int, double_q: bool, finals: list[bool] | None, terminations: list[bool] | None, expected: list[float]
) -> None:
    samples = make_samples(finals, terminations)
    td_errors = q_learning_errors(Q_VALUES, TARGET_Q_VALUES, samples, GAMMA, n_steps, double_q, value_rescaling=False)
    assert td_errors[:, 0].tolist() == expected


def test_q_learning_errors_with_rescaling_by_hand() -> None:
    # h(Q) of 24, -8 and 80 = h^-1(8.08) at rows 2, 3, 4: targets 3 + 24/2 = 15, 4 - 8/2 = 0, 0 + 80/2 = 40
    target_q_values = th.tensor([[[0.0, 0.0]], [[4.024, 0.0]], [[0.0, -2.008]], [[0.0, 8.08]]])
    td_errors = q_learning_errors(Q_VALUES, target_q_values, make_samples(), GAMMA, 1, double_q=True, value_rescaling=True)
    expected = [1.0 - 3.015, -5.0 - 0.0, -3.0 - (math.sqrt(41.0) - 1.0 + 0.04)]
    assert td_errors[:, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_only_the_taken_q_values_have_a_gradient() -> None:
    q_values, target_q_values = Q_VALUES.clone().requires_grad_(), TARGET_Q_VALUES.clone().requires_grad_()
    q_learning_errors(
        q_values, target_q_values, make_samples(ROW_3), GAMMA, 1, double_q=True, value_rescaling=True
    ).sum().backward()
    assert q_values.grad is not None and target_q_values.grad is None
    # actions 0 and 1; none at the final row 3, and the last row only bootstraps
    assert q_values.grad[:, 0].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(("dtype", "tolerance"), [(th.float64, 2e-14), (th.float32, 1e-6)])
def test_rescaling_and_its_inverse_cancel(dtype: th.dtype, tolerance: float) -> None:
    magnitudes = th.logspace(-30, 30, 2001, dtype=th.float64).to(dtype)
    values = th.cat((-magnitudes.flip(0), th.zeros(1, dtype=dtype), magnitudes))
    th.testing.assert_close(unrescale_value(rescale_value(values)), values, rtol=tolerance, atol=0.0)
    th.testing.assert_close(rescale_value(unrescale_value(values[500:-500])), values[500:-500], rtol=tolerance, atol=0.0)


def test_rescaling_by_hand() -> None:
    values = th.tensor([0.0, 3.0, 8.0, 24.0, 1e6 - 1, -3.0, -8.0], dtype=th.float64)
    expected = th.tensor([0.0, 1.003, 2.008, 4.024, 999.0 + 1e3 - 1e-3, -1.003, -2.008], dtype=th.float64)
    th.testing.assert_close(rescale_value(values), expected, rtol=1e-14, atol=0.0)
    # another epsilon: h(3) = 1 + 0.1 * 3
    assert rescale_value(th.tensor(3.0), 0.1).item() == pytest.approx(1.3)
    assert unrescale_value(th.tensor(1.3), 0.1).item() == pytest.approx(3.0)
    # near 0 the slope is 1/2 + epsilon; sqrt(|x| + 1) - 1 as it is written is 0 there in float32
    assert rescale_value(th.tensor(1e-8)).item() == pytest.approx(0.501e-8, rel=1e-6)


@pytest.mark.parametrize("function", [rescale_value, unrescale_value])
def test_rescaling_is_odd_and_increasing(function: Callable[[th.Tensor], th.Tensor]) -> None:
    values = th.cat((th.linspace(-1e4, 1e4, 4001), th.linspace(-1e-3, 1e-3, 4001))).double().unique()
    rescaled = function(values)
    assert (rescaled.diff() > 0).all()
    th.testing.assert_close(function(-values), -rescaled, rtol=0.0, atol=0.0)


def test_sequence_priorities_by_hand() -> None:
    # magnitudes 1 3 2 and 0 0 6: largest 3 and 6, both of mean 2
    td_errors = th.tensor([[1.0, 0.0], [-3.0, 0.0], [2.0, -6.0]])
    # 0.9 * 3 + 0.1 * 2, 0.9 * 6 + 0.1 * 2
    assert sequence_priorities(td_errors, max_weight=0.9).tolist() == pytest.approx([2.9, 5.6])
    assert sequence_priorities(td_errors, max_weight=0.5).tolist() == pytest.approx([2.5, 4.0])
    assert sequence_priorities(td_errors, max_weight=0.0).tolist() == pytest.approx([2.0, 2.0])
