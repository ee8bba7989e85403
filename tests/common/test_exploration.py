"""Random actions: the ladder of epsilons, and a coin for each environment."""

import numpy as np
import pytest

from sb3_lwm.common.exploration import epsilon_ladder, explore


@pytest.mark.parametrize("n_envs", [2, 8, 128])
def test_epsilon_ladder(n_envs: int) -> None:
    epsilons = epsilon_ladder(n_envs, base=0.4, alpha=7.0)
    assert epsilons == pytest.approx([0.4 ** (1 + 7 * index / (n_envs - 1)) for index in range(n_envs)], rel=1e-12)
    # 0.4^8 = 0.16^4 = 0.0256^2
    assert (epsilons[0], epsilons[-1]) == pytest.approx((0.4, 0.0256**2))
    assert epsilons == sorted(set(epsilons), reverse=True)


def test_epsilon_ladder_of_one_environment() -> None:
    assert epsilon_ladder(1, base=0.4, alpha=7.0) == [0.4]


def test_explore_takes_an_epsilon_for_each_environment() -> None:
    rng = np.random.default_rng(0)
    epsilons = np.repeat([0.0, 0.3, 1.0], 4000)
    actions = explore(np.full(12_000, 2), epsilons, 4, rng).reshape(3, 4000)
    assert (actions[0] == 2).all()
    shares = [np.bincount(part, minlength=4) / 4000 for part in actions]
    np.testing.assert_allclose(shares[1], [0.075, 0.075, 0.775, 0.075], atol=0.03)
    np.testing.assert_allclose(shares[2], [0.25] * 4, atol=0.03)
