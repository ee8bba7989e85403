"""Fixtures that several files of tests share: one installation, and one training."""

import shutil
from pathlib import Path

import pytest
from zoo_commands import TRAIN, Installation, install, made_once


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = made_once(tmp_path_factory, "wheel", install)
    (wheel,) = folder.glob("*.whl")
    return Installation(wheel, folder / "site")


@pytest.fixture(scope="session")
def trained(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the working directory of a training by the Zoo's own command, for tests that do not add to its ``logs``."""

    def train(folder: Path) -> None:
        (folder / "output.txt").write_text(installation.run(folder, "-m", "rl_zoo3.train", *TRAIN))

    return made_once(tmp_path_factory, "trained", train)


@pytest.fixture
def trained_copy(trained: Path, tmp_path: Path) -> Path:
    """Return the test's own working directory, with a copy of the training."""
    shutil.copytree(trained / "logs", tmp_path / "logs")
    return tmp_path
