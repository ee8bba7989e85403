"""The tables of results in the README equal the CSVs beside them; a failure shows the rows to put in."""

import pandas as pd
from helpers import BENCHMARKS, REPOSITORY
from results_tables import course_table, final_table, training_table


def table_below(words: str) -> list[list[str]]:
    """:return: cells of the README's first table below words that it has once"""
    (_, text) = (REPOSITORY / "README.md").read_text(encoding="utf-8").split(words)
    lines = text[text.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(BENCHMARKS / "results" / name)


def test_table_of_labyrinths() -> None:
    expected = final_table(read("labyrinth.csv"))
    rows = [[row[0].split("`")[1], *row[1:]] for row in table_below("\n## Results\n")]
    assert sorted(rows) == sorted(expected.to_numpy().tolist())


def test_table_of_ablations() -> None:
    expected = course_table(read("ablations.csv"))
    rows = table_below("\n### Ablations\n")
    # an agent is named in its first row
    agents = pd.Series([row[0].split("`")[1] if row[0] else None for row in rows]).ffill()
    found = [[agent, *row[1:]] for agent, row in zip(agents, rows, strict=True)]
    assert sorted(found) == sorted(expected.astype(str).to_numpy().tolist())


def test_table_of_burn_in() -> None:
    table = pd.concat([training_table(read(name)) for name in ("labyrinth.csv", "labyrinth_burn_in.csv")])
    table = table[(table.agent == "lwm_dqn") & (table["size"] > 3)]
    shipped = table["size"].map({4: 16, 5: 0})
    burn_in = table.settings.map({"labyrinth burn_in:0": 0, "labyrinth burn_in:32": 32}).fillna(shipped)
    kinds = burn_in.map(lambda rows: f"{rows:.0f} steps of burn-in" if rows else "none")
    labels = table["size"].map("{0}x{0}, ".format) + kinds + table.seed.map(", seed {}".format)
    expected = table.assign(size=labels).drop(columns=["agent", "settings", "seed"])
    assert sorted(table_below("### What did not work")) == sorted(expected.to_numpy().tolist())


def test_table_of_the_papers_settings_on_3x3() -> None:
    table = training_table(read("labyrinth_3x3.csv")).fillna("")
    agents = table.agent.map({"lwm_dqn": "world model", "no-world-model": "no world model"})
    labels = agents + table.seed.map(", seed {}".format)
    expected = table.assign(size=labels).drop(columns=["agent", "settings", "seed"])
    assert table_below("the world model cost more on 3x3") == expected.to_numpy().tolist()


def test_table_of_long_episodes() -> None:
    table = training_table(read("labyrinth_long_episodes.csv"))
    labels = table["size"].map("{0}x{0}, ".format) + table.seed.map("seed {}".format)
    expected = table.assign(size=labels).drop(columns=["agent", "settings", "seed"])
    assert table_below("Given the labyrinth's own 1000 steps") == expected.to_numpy().tolist()
