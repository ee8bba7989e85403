"""What several files of tests take turns with: one installation, one training."""

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
    """The working directory of a training with the Zoo's own command, for tests that add nothing to its ``logs``."""

    def train(folder: Path) -> None:
        (folder / "output.txt").write_text(installation.run(folder, "-m", "rl_zoo3.train", *TRAIN))

    return made_once(tmp_path_factory, "trained", train)


@pytest.fixture
def trained_copy(trained: Path, tmp_path: Path) -> Path:
    """A working directory of the test's own with a copy of the training."""
    shutil.copytree(trained / "logs", tmp_path / "logs")
    return tmp_path
