"""Encoders that are trained on recorded play, and kept in files."""

from pathlib import Path

import numpy as np
import pytest
from helpers import changed, weights

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.figures import encoder_training
from sb3_lwm.figures.encoder_training import cached_encoder, embed, load_encoder, save_encoder, train_encoder, windows


def make_play(lengths: tuple[int, ...]) -> Play:
    """Return episodes of random frames, of these lengths."""
    rng, n_rows = np.random.default_rng(0), sum(lengths)
    return Play(
        rng.integers(256, size=(n_rows, 84, 84), dtype=np.uint8),
        rng.integers(3, size=n_rows),
        np.zeros((n_rows, 128), np.uint8),
        np.repeat(np.arange(len(lengths)), lengths),
        3,
    )


@pytest.mark.parametrize("length", [1, 2, 4])
def test_windows_lie_within_one_episode(length: int) -> None:
    play = make_play((5, 1, 3))
    expected = [first for first in range(10 - length) if len(set(play.episodes[first : first + length])) == 1]
    assert windows(play, length).tolist() == expected


def test_training_is_reproducible() -> None:
    play = make_play((40, 40))
    untrained, logs = train_encoder(play, "random", seed=1, n_updates=1)
    assert logs == {}
    first, second, other = (train_encoder(play, "inverse-dynamics", seed, n_updates=1) for seed in (1, 1, 2))
    assert changed(weights(first[0]), weights(second[0])) == set() and first[1] == second[1]
    assert changed(weights(first[0]), weights(untrained)) and changed(weights(first[0]), weights(other[0]))
    assert set(first[1]) == {"loss", "accuracy"} and np.isfinite(list(first[1].values())).all()
    # an update of CPC counts twice: one alone is none
    assert train_encoder(play, "cpc", seed=1, n_updates=1)[1] == {}


def test_too_short_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"No episode of the play has the 32 frames of a window of cpc: play longer"):
        train_encoder(make_play((31, 31)), "cpc", seed=0, n_updates=2)


def test_embeddings_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    play = make_play((7,))
    encoder, _ = train_encoder(play, "random", seed=0, n_updates=0)
    whole = embed(encoder, play.frames)
    assert whole.shape == (7, encoder_training.LATENT_SIZE)
    monkeypatch.setattr(encoder_training, "PART", 2)
    np.testing.assert_allclose(embed(encoder, play.frames), whole, rtol=1e-4, atol=1e-5)


def test_saved_encoder_is_loaded_if_its_settings_fit(tmp_path: Path) -> None:
    encoder, _ = train_encoder(make_play((3,)), "random", seed=0, n_updates=0)
    path = tmp_path / "folder" / "encoder.pth"
    save_encoder(path, encoder, {"seed": 0}, {"loss": 1.5})
    loaded, logs = load_encoder(path, {"seed": 0})
    assert changed(weights(encoder), weights(loaded)) == set() and logs == {"loss": 1.5}
    with pytest.raises(ValueError, match=r"was trained with \{'seed': 0\}, not with \{'seed': 1\}: delete it"):
        load_encoder(path, {"seed": 1})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"encoder\.pth is not an encoder, or was cut short"):
        load_encoder(path, {"seed": 0})


def test_cached_encoder_is_trained_once(tmp_path: Path) -> None:
    play, n_plays = make_play((3,)), 0

    def get_play() -> Play:
        nonlocal n_plays
        n_plays += 1
        return play

    results = [cached_encoder(tmp_path, "breakout", get_play, "random", seed, 5) for seed in (0, 0, 1)]
    assert n_plays == 2
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["breakout_random_5_0.pth", "breakout_random_5_1.pth"]
    assert changed(weights(results[0][0]), weights(results[1][0])) == set()
    cached_encoder(None, "breakout", get_play, "random", 0, 5)
    assert n_plays == 3
