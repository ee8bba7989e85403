"""The short form of benchmarks/kill_resume.py."""

import csv
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kill_resume.py"


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], check=True, timeout=300)


def test_killed_training_is_the_same(tmp_path: Path) -> None:
    output = tmp_path / "kills.csv"
    run("exact", "--task", "tiny", "--steps", 1200, "--every-steps", 200, "--kills", 2, "--longest", 0.7, "--output", output)
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(row["different"] == "" for row in rows)


def test_killed_in_a_save(tmp_path: Path) -> None:
    output = tmp_path / "kills.csv"
    run("storm", "--task", "tiny", "--steps", 100_000, "--every-steps", 50, "--kills", 2, "--longest", 0.2, "--output", output)
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and rows[1]["in_save"] == "True"
