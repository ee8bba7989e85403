"""Trainings with and without a break, and what must not differ."""

from typing import Any

import numpy as np

# Lines of a log that depend on the clock
CLOCK = ("time/fps", "time/time_elapsed")


def assert_same_tree(first: Any, second: Any, where: str = "") -> None:
    """
    :param first: nested values
    :param second: the same to the last bit
    :param where: for the message
    """
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same_tree(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, parts in enumerate(zip(first, second, strict=True)):
            assert_same_tree(*parts, f"{where}/{index}")
    else:
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second), err_msg=where)
