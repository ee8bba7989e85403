"""Functions for tests of the Zoo's commands with an installed wheel, in directories outside the repository."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[1]

# Settings that learn nothing, but run warm-up, pretraining and updates in 400 steps
SETTINGS = {
    **{"n_envs": 2, "learning_starts": 200, "buffer_size": 1000, "batch_size": 4, "burn_in": 2, "unroll": 4},
    **{"pretraining_updates": 2, "pretraining_batch_size": 4, "pretraining_sequence_length": 8},
}
QUICK = [f"{name}:{value}" for name, value in SETTINGS.items()]
LABYRINTH = ["--algo", "lwm_dqn", "--env", "POL-3x3-v0"]
# 9 cells cannot be visited in 7 steps: all episodes have the same length and score
SHORT_EPISODES = ["--env-kwargs", "max_episode_steps:7"]
# The arguments of the training that all tests use
TRAIN = [
    *(*LABYRINTH, "-n", "400", "--seed", "1", "--eval-freq", "200", "--eval-episodes", "2", "--n-eval-envs", "2"),
    *("--save-freq", "200", "--save-replay-buffer", "-P", "--device", "cpu", *SHORT_EPISODES, "-params", *QUICK),
]
PLAY = [*LABYRINTH, "-f", "logs"]
RUN = "logs/lwm_dqn/POL-3x3-v0_1"


class Installation(NamedTuple):
    """A wheel, and the folder in which it was installed."""

    wheel: Path
    site: Path

    def start(self, cwd: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        """
        :param cwd: The working directory, also the first place where Python looks for modules
        :param arguments: The arguments of the Python interpreter
        :param variables: Environment variables; ``PYTHONPATH`` overrides the installation
        :return: The process, with a pipe for everything that it prints
        """
        # the wheel overrides an editable install that the environment may have
        places = [place for place in (variables.get("PYTHONPATH"), str(self.site)) if place]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", **variables}
        environment["PYTHONPATH"] = os.pathsep.join(places)
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, cwd: Path, *arguments: str, code: int = 0, **variables: str) -> str:
        """
        :param cwd: The working directory, also the first place where Python looks for modules
        :param arguments: The arguments of the Python interpreter
        :param code: The expected exit code
        :param variables: Environment variables; ``PYTHONPATH`` overrides the installation
        :return: The whole output
        """
        with self.start(cwd, *arguments, **variables) as process:
            try:
                output, _ = process.communicate(timeout=300)
            finally:
                process.kill()
        assert process.returncode == code, f"{arguments} ended with {process.returncode}:\n{output}"
        return output


def install(folder: Path) -> None:
    """
    :param folder: The folder for the wheel, and for its installation ``site``
    """
    source = folder / "source"  # a copy: building leaves files behind, and would pick up those of an earlier build
    for package in ("sb3_lwm", "hyperparams"):
        shutil.copytree(REPOSITORY / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "_gru_kernel.*"))
    for file in ("setup.cfg", "setup.py", "pyproject.toml", "custom_envs.py", "LICENSE", "README.md"):
        shutil.copy(REPOSITORY / file, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", folder], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """
    :param factory: The factory of temporary folders of pytest
    :param name: The name of a folder
    :param make: The function that fills the folder, once in a whole test run, also if it is spread over processes
    :return: The folder
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with FileLock(f"{folder}.lock"):
        if not (folder / ".made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / ".made").touch()
    return folder
