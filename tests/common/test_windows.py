"""Where windows of consecutive rows may lie: every place once, and no other."""

import numpy as np
import pytest

from sb3_lwm.common.windows import Stretches, episode_stretches


def test_stretches_by_hand() -> None:
    starts = np.array([[0, 1], [0, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    stretches = episode_stretches(starts)
    assert [part.tolist() for part in stretches] == [[0, 2, 0, 3, 4], [0, 0, 1, 1, 1], [2, 3, 3, 1, 1]]
    assert [stretches.n_windows(length) for length in (1, 2, 3, 4)] == [10, 5, 2, 0]
    firsts, envs = stretches.windows(np.arange(5), 2)
    assert list(zip(firsts.tolist(), envs.tolist(), strict=True)) == [(0, 0), (2, 0), (3, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("chance", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_each_window_has_one_number(length: int, chance: float, n_envs: int) -> None:
    starts = np.random.default_rng(0).random((40, n_envs)) < chance
    expected = [
        (first, env)
        for env in range(n_envs)
        for first in range(40 - length + 1)
        if not starts[first + 1 : first + length, env].any()
    ]
    stretches = episode_stretches(starts)
    n_windows = stretches.n_windows(length)
    found = zip(*(part.tolist() for part in stretches.windows(np.arange(n_windows), length)), strict=True)
    assert list(found) == expected


def test_no_rows() -> None:
    stretches = episode_stretches(np.zeros((0, 3), dtype=bool))
    assert stretches.n_windows(1) == 0 and len(stretches.firsts) == 0


def test_rows_are_numbered_as_the_stretches_say() -> None:
    stretches = Stretches(np.array([7, 20]), np.array([2, 0]), np.array([3, 2]))
    assert stretches.n_windows(2) == 3
    assert [part.tolist() for part in stretches.windows(np.array([2, 0, 1]), 2)] == [[20, 7, 8], [0, 2, 2]]
