"""The scripts in examples/, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        ("own_environment", 1200, "Mean return of 100 episodes: "),
        ("dict_observations", 1100, "Share of 100 episodes in which the lamp was found: "),
        ("compare_bonus", 4096, "PPO with the intrinsic reward mean return of 100 episodes: "),
    ],
)
def test_example(name: str, steps: int, expected: str, tmp_path: Path) -> None:
    if name == "compare_bonus":
        pytest.importorskip("minigrid")
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--steps", str(steps)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert expected in process.stdout
