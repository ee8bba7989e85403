"""The README's tables of results say what the CSVs beside them say; a failure shows the rows to put in."""

from pathlib import Path

import pandas as pd
from results_tables import course_table, final_table

ROOT = Path(__file__).resolve().parents[1]


def table_below(heading: str) -> list[list[str]]:
    """:return: cells of the first table below a heading of the README"""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n{heading}\n")[1]
    lines = text[text.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "benchmarks" / "results" / name)


def test_labyrinths() -> None:
    expected = final_table(read("labyrinth.csv"))
    rows = [[row[0].split("`")[1], *row[1:]] for row in table_below("## Results")]
    assert sorted(rows) == sorted(expected.to_numpy().tolist())


def test_ablations() -> None:
    expected = course_table(read("ablations.csv"))
    rows = table_below("### Ablations")
    # an agent is named in its first row
    agents = pd.Series([row[0].split("`")[1] if row[0] else None for row in rows]).ffill()
    found = [[agent, *row[1:]] for agent, row in zip(agents, rows, strict=True)]
    assert sorted(found) == sorted(expected.astype(str).to_numpy().tolist())
