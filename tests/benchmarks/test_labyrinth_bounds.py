"""The bounds that the results in the labyrinth are compared with."""

import labyrinth_bounds
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("agent", "size", "known", "tolerance"),
    [
        *(("map-known", size, known, 0.03) for size, known in ((3, 10.3), (4, 20.1), (5, 33.0), (6, 49.1))),
        *(("search", size, known, 0.03) for size, known in ((3, 11.7), (4, 23.6), (5, 39.9), (6, 60.1))),
        *(("random", size, known, 0.1) for size, known in ((3, 154), (4, 480))),
    ],
)
def test_known_mean_steps(agent: str, size: int, known: float, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labyrinth_bounds, "N_LABYRINTHS", 300)
    assert np.mean(labyrinth_bounds.bound(agent, size, seed=6)) == pytest.approx(known, rel=tolerance)
