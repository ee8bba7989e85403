"""Every program in benchmarks/ starts: what it imports is there."""

import subprocess
import sys

import pytest
from helpers import BENCHMARKS

PROGRAMS = sorted(path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
# of the extra `benchmarks` alone
PACKAGES = {"frame_compression.py": ("blosc2", "lz4"), "novelty.py": ("scipy",), "probes.py": ("scipy",)}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help(program: str) -> None:
    for package in PACKAGES.get(program, ()):
        pytest.importorskip(package, reason="needs the extra 'benchmarks'")
    result = subprocess.run([sys.executable, BENCHMARKS / program, "--help"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "usage: " + program in result.stdout
