"""Files that were cut short or hold something else are named by the error; files are written whole or not at all."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import SHORT, make_random_envs
from stable_baselines3 import PPO

from sb3_lwm import LWMDQN
from sb3_lwm.common.files import whole_file


def make_model() -> LWMDQN:
    return LWMDQN("MlpPolicy", make_random_envs(), **SHORT)


def cut_short(path: Path, share: float = 0.5) -> None:
    """Keep the first part, as when the disk was full or the process was killed."""
    make_model().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def text(path: Path) -> None:
    path.write_text("not a model")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "not a model")


def other_algorithm(path: Path) -> None:
    PPO("MlpPolicy", make_random_envs(), n_steps=8, batch_size=8, device="cpu").save(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_model_that_was_cut_short_is_named(share: float, tmp_path: Path) -> None:
    # the networks are archives inside the archive: cut at the right place, zipfile takes the end of one for the whole
    path = tmp_path / "spoilt.zip"
    cut_short(path, share)
    with pytest.raises(ValueError, match=r"spoilt\.zip"):
        LWMDQN.load(path)


@pytest.mark.parametrize("spoil", [text, empty, foreign_archive, other_algorithm])
def test_file_that_is_not_a_model_is_named(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "spoilt.zip"
    spoil(path)
    with pytest.raises(ValueError, match=r"spoilt\.zip"):
        LWMDQN.load(path)


@pytest.mark.parametrize("spoil", [cut_short, text])
def test_parameters_of_a_file_that_is_not_a_model(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    path, model = tmp_path / "spoilt.zip", make_model()
    spoil(path)
    with pytest.raises(ValueError, match=r"spoilt\.zip"):
        model.set_parameters(str(path))


def test_replay_that_was_cut_short_is_named(tmp_path: Path) -> None:
    model, path = make_model().learn(20), tmp_path / "spoilt.pkl"
    model.save_replay_buffer(path)
    content = path.read_bytes()
    for kept in (len(content) // 2, 0):
        path.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=r"spoilt\.pkl"):
            model.load_replay_buffer(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        LWMDQN.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="missing"):
        make_model().load_replay_buffer(tmp_path / "missing")


def test_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with whole_file(path) as temporary:
        temporary.write_text("first")
        assert not path.exists() and temporary.suffix == ".csv"
    with pytest.raises(OSError, match="disk full"), whole_file(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "first"
