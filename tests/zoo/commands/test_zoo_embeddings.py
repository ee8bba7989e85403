"""``embeddings``: encoders of play, and the figure that is drawn with them."""

import sys
from pathlib import Path
from typing import Any

import pytest
from atari_helpers import FIRST_ROOM

from sb3_lwm.figures import encoder_training
from sb3_lwm.zoo.commands import embeddings, play

pytest.importorskip("cv2")
pytest.importorskip("sklearn")

GAME = "ALE/MontezumaRevenge-v5"


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", "--env", GAME, *map(str, arguments)])
    module.main()


def test_embeddings_train_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embeddings, "TRAJECTORY_FRAMES", 100)
    small = ["--frames", 40, "--updates", 1, "--objectives", "w-mse", "random", "--max-steps", 60, "-o", tmp_path]
    run(embeddings, monkeypatch, *small)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [
        "montezuma_revenge_40_0_random_1_0.pth",
        "montezuma_revenge_40_0_w-mse_1_0.pth",
        "montezuma_revenge_embeddings.png",
        "montezuma_revenge_embeddings.svg",
    ]
    first = (tmp_path / "montezuma_revenge_embeddings.png").read_bytes()
    monkeypatch.setattr(encoder_training, "train_encoder", None)
    monkeypatch.setattr(embeddings, "_learned_play", None)
    run(embeddings, monkeypatch, *small)
    assert (tmp_path / "montezuma_revenge_embeddings.png").read_bytes() == first


def test_embeddings_of_recordings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(play, monkeypatch, "--agent", "random", "-n", 50, "-o", tmp_path / "play.json")
    learned: list[Any] = []
    monkeypatch.setattr(encoder_training, "train_encoder", lambda seen, *rest: (learned.append(seen), encoder())[1])

    def encoder() -> Any:
        return encoder_training.ImageEncoder(encoder_training.IMAGES, encoder_training.LATENT_SIZE), {}

    both = ["--play", tmp_path / "play.json", tmp_path / "play.json", "--trajectory", tmp_path / "play.json"]
    run(embeddings, monkeypatch, *both, "--objectives", "random", "-o", tmp_path / "figures")
    assert len(learned) == 1 and len(learned[0].frames) == 2 * 51 and learned[0].episodes[-1] == 1
    assert (tmp_path / "figures" / "montezuma_revenge_embeddings.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "ALE/Freeway-v5", "--trajectory", FIRST_ROOM], "is a recording of montezuma_revenge, not of freeway"),
        (["--max-steps", 20], "trajectory of 20 steps is too short .* lower perplexity"),
        (["--trajectory", "nowhere.json"], "nowhere.json"),
    ],
)
def test_embeddings_refuse_before_training(
    arguments: list[object], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embeddings, "cached_encoder", None)
    monkeypatch.setattr(embeddings, "TRAJECTORY_FRAMES", 100)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(embeddings, monkeypatch, *arguments, "-o", tmp_path)


def test_embeddings_without_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"pip install 'sb3-lwm\[figures\]'"):
        run(embeddings, monkeypatch, "-o", tmp_path)
