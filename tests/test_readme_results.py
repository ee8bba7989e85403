"""The README's tables of results say what the CSVs beside them say; a failure shows the rows to put in."""

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
SIZES = (3, 4, 5)
INTERVALS = (100_000, 200_000, 300_000, 400_000)


def table_below(heading: str) -> list[list[str]]:
    """:return: cells of the first table below a heading of the README"""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n{heading}\n")[1]
    lines = text[text.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "benchmarks" / "results" / name).sort_values("steps", kind="stable")


def number(steps: float) -> str:
    return f"{steps:.1f}" if steps < 100 else f"{steps:.0f}"


def test_labyrinths() -> None:
    results = read("labyrinth.csv")
    counted = results[results.kind != "training"]
    # bounds have no seed; the others' seeds in their order, of each its last evaluation
    last = counted.assign(seed=counted.seed.fillna(0)).groupby(["agent", "size", "seed"]).mean_steps.last()
    expected = {
        agent: [" ".join(number(steps) for steps in last.get(agent).get(size, ())) for size in SIZES]
        for agent in dict.fromkeys(counted.agent)
    }
    assert {row[0].split("`")[1]: row[1:] for row in table_below("## Results")} == expected


def test_ablations() -> None:
    results = read("ablations.csv")
    trainings = results[results.kind == "training"].groupby(["agent", "seed"]).wall_seconds.max()
    evaluations = results[results.kind == "evaluation"].groupby(["agent", "seed", "steps"]).mean_steps.last()
    rows = table_below("### Ablations")
    # an agent is named in its first row
    agents = pd.Series([row[0].split("`")[1] if row[0] else None for row in rows]).ffill()
    expected = [
        [agent, f"{seed:.0f}", *(number(evaluations[agent, seed, step]) for step in INTERVALS), f"{seconds / 60:.0f}"]
        for (agent, seed), seconds in trainings.items()
    ]
    assert sorted([agent, *row[1:]] for agent, row in zip(agents, rows, strict=True)) == sorted(expected)
