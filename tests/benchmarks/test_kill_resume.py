"""The short form of benchmarks/kill_resume.py."""

import csv
import subprocess
import sys
from pathlib import Path

from helpers import BENCHMARKS


def test_killed_and_resumed_training_equals_the_unbroken_one(tmp_path: Path) -> None:
    output = tmp_path / "kills.csv"
    options = ["--steps", 1200, "--every-steps", 100, "--kills", 2, "--output", output]
    subprocess.run(
        [sys.executable, BENCHMARKS / "kill_resume.py", "exact", "--task", "tiny", *map(str, options)], check=True, timeout=300
    )
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["different"] for row in rows] == ["", ""] and rows[1]["in_save"] == "True"
