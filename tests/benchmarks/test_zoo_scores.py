"""Random actions of agents of other algorithms."""

import numpy as np
import pytest
import zoo_scores
from helpers import make_labyrinths


def test_epsilon_greedy_share_of_random_actions() -> None:
    class Model:
        action_space = make_labyrinths(1).action_space

        def predict(
            self, observation: object, state: object, episode_start: object, deterministic: bool
        ) -> tuple[object, str]:
            assert deterministic
            return np.zeros(10_000, dtype=np.int64), "state"

    np.random.seed(0)
    player = zoo_scores.EpsilonGreedy(Model(), 0.2)  # type: ignore[arg-type]
    actions, state = player.predict(None, None, None, True)
    # a random action may be the greedy one
    assert state == "state" and (actions != 0).mean() == pytest.approx(0.2 * 3 / 4, abs=0.01)
