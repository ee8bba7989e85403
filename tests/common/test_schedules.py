"""Schedules from numbers, texts and functions."""

from typing import Any

import pytest

from sb3_lwm.common.schedules import make_schedule


@pytest.mark.parametrize(
    ("value", "progress", "expected"),
    [(0.5, 0.3, 0.5), ("0.5", 0.3, 0.5), ("lin_0.5", 0.5, 0.25), ("lin_0.5", 0.0, 0.0), (lambda left: 2 * left, 0.5, 1.0)],
)
def test_the_value_at_a_progress(value: Any, progress: float, expected: float) -> None:
    assert make_schedule("scale", value)(progress) == pytest.approx(expected)


def test_a_linear_schedule_may_fall_in_a_part_of_the_training() -> None:
    schedule = make_schedule("scale", "lin_0.4", fraction=0.5)
    assert [schedule(left) for left in (1.0, 0.75, 0.5, 0.2)] == pytest.approx([0.4, 0.2, 0.0, 0.0])


@pytest.mark.parametrize("value", [-1.0, "lin_", "log_2", None, "lin_-1", float("nan")])
def test_anything_else_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match="scale="):
        make_schedule("scale", value)
