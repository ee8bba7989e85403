"""The probes of the benchmark find the information in an embedding, and only that."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("sklearn")

RNG = np.random.default_rng(0)


@pytest.fixture
def probes() -> ModuleType:
    import probes

    return probes


def make_play(probes: ModuleType, seed: int, n_episodes: int = 3, length: int = 60) -> Any:
    """Return episodes of random console memories with few values, and black frames."""
    n_rows = n_episodes * length
    rams = np.random.default_rng(seed).integers(4, size=(n_rows, 128), dtype=np.uint8)
    frames = np.zeros((n_rows, 1, 1), np.uint8)
    return probes.Play(frames, np.zeros(n_rows, np.int64), rams, np.repeat(np.arange(n_episodes), length), 2)


def test_labels_of_the_ram(probes: ModuleType) -> None:
    import ram_labels

    rams = np.zeros((1, 128), np.uint8)
    rams[0, 7] = 0x59
    assert (ram_labels.Label(7).read(rams)[0], ram_labels.Label(7, decimal=True).read(rams)[0]) == (0x59, 59)
    for game, labels in ram_labels.LABELS.items():
        used = [label.byte for label in labels.values()]
        assert len(set(used)) == len(used) and not set(used) & set(ram_labels.LEFT_OUT[game])


@pytest.mark.parametrize(("is_known", "low", "high"), [(True, 0.95, 1.0), (False, -0.5, 0.5)])
def test_probe_of_known_and_unknown_labels(is_known: bool, low: float, high: float, probes: ModuleType) -> None:
    parts = [make_play(probes, seed) for seed in (1, 2)]
    # one dimension for each value of each label, or noise
    bytes_ = [label.byte for label in probes.LABELS["MontezumaRevenge"].values()]
    features = [(part.rams[:, bytes_, None] == np.arange(4)).reshape(len(part.rams), -1).astype(float) for part in parts]
    if not is_known:
        features = [RNG.normal(size=part.shape) for part in features]
    rows = probes.probe("MontezumaRevenge", features, *parts)
    assert {(row["label"], row["metric"]) for row in rows} == {
        *((name, "R2") for name in ("player_x", "player_y", "skull_x", "lives")),
        *((name, "F1") for name in ("player_direction", "lives")),
    }
    assert all(low <= row["value"] <= high for row in rows)


def test_rare_values_count_in_no_f1(probes: ModuleType) -> None:
    labels = np.array([0, 1] * 150)
    features = labels[:, None] + RNG.normal(scale=0.1, size=(300, 1))
    with_rare_one = np.where(np.arange(300) == 7, 9, labels)
    assert probes.classify([features, features], [with_rare_one, with_rare_one]) == pytest.approx(1.0, abs=0.02)
    assert np.isnan(probes.classify([features, features], [labels, np.zeros(300, int)]))


def test_distances_in_time(probes: ModuleType) -> None:
    data = make_play(probes, 0)
    time = np.tile(np.arange(60.0), 3)[:, None]
    # a dimension that differs between episodes does not show the time within one
    line = np.concatenate((time, 1000.0 * data.episodes[:, None]), axis=1)
    assert [row["value"] for row in probes.compare_distances(line, data, 0)] == pytest.approx([1.0, 1.0])
    noise = RNG.normal(size=(len(time), 4))
    assert all(abs(row["value"]) < 0.2 for row in probes.compare_distances(noise, data, 0))
