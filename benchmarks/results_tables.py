"""
The documentation's tables of results, made from their CSVs alone::

    python benchmarks/results_tables.py
"""

import argparse
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results"
# The folder of the tables that the pages of the documentation include
PAGES = Path(__file__).parents[1] / "docs" / "results"


def final_table(results: pd.DataFrame) -> pd.DataFrame:
    """
    :param results: The rows of a CSV of ``labyrinth.py`` or ``ablations.py``
    :return: The mean steps of bounds and of last evaluations, with a row for each agent and a column for each size; a cell has
        one number for each seed, in their order
    """
    # a CSV of bounds alone does not have the columns seed and steps
    results = results.reindex(columns=results.columns.union(["seed", "steps"], sort=False))
    counted = results[results.kind != "training"].sort_values("steps", kind="stable")
    last = counted.assign(seed=counted.seed.fillna(0)).groupby(["agent", "size", "seed"]).mean_steps.last()
    cells = last.map(write_steps).groupby(["agent", "size"]).agg(" ".join)
    table = cells.unstack("size", fill_value="").reindex(results.agent.unique())
    return table.rename(columns={size: f"{size}x{size}" for size in table}).reset_index()


def course_table(results: pd.DataFrame) -> pd.DataFrame:
    """
    :param results: The rows of one size, some of them of trainings
    :return: The mean steps of all evaluations during the trainings, and the minutes of the trainings: a row for each agent
        and seed
    """
    trained = results.dropna(subset="seed").astype({"seed": int})
    evaluations = trained[trained.kind == "evaluation"]
    steps = evaluations.pivot(index=["agent", "seed"], columns="steps", values="mean_steps").map(write_steps)
    seconds = trained[trained.kind == "training"].groupby(["agent", "seed"]).wall_seconds.max()
    table = steps.rename(columns=lambda step: f"{step / 1000:g}k").assign(minutes=(seconds / 60).map("{:.0f}".format))
    return table.reindex(pd.MultiIndex.from_frame(evaluations[["agent", "seed"]].drop_duplicates())).reset_index()


def training_table(results: pd.DataFrame) -> pd.DataFrame:
    """
    :param results: The rows of a CSV
    :return: The mean steps of the episodes that ended in each interval of a training, with its random actions, and
        of its last evaluation, with a row for each size, agent, settings and seed
    """
    training = results.dropna(subset="seed").astype({"seed": int}).sort_values("steps", kind="stable")
    who = ["size", "agent", "settings", "seed"]
    means = training[training.kind == "training"].pivot(index=who, columns="steps", values="mean_steps")
    last = training[training.kind == "evaluation"].groupby(who).mean_steps.last()
    table = means.map("{:.1f}".format, na_action="ignore").rename(columns=lambda step: f"{step / 1000:g}k")
    return table.assign(evaluation=last.map(write_steps)).reset_index()


def write_steps(steps: float) -> str:
    """Return the number with one decimal below 100 steps, and without decimals above."""
    return f"{steps:.1f}" if steps < 100 else f"{steps:.0f}"


def to_markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    rows = [list(table), ["---"] * len(table.columns), *table.fillna("").to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def read_result(name: str) -> pd.DataFrame:
    """Return the rows of a CSV in ``benchmarks/results``."""
    return pd.read_csv(RESULTS / f"{name}.csv")


def label_rows(table: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """
    :param table: The result of ``training_table``
    :param labels: The label of each row
    :return: The table with one column of labels in place of size, agent, settings and seed
    """
    courses = table.drop(columns=["size", "agent", "settings", "seed"])
    courses.insert(0, "up to step", labels + table.seed.map(", seed {}".format))
    return courses.fillna("")


def burn_in_table() -> pd.DataFrame:
    """Return the table of trainings on 4x4 and 5x5 with and without burn-in."""
    table = pd.concat([training_table(read_result(name)) for name in ("labyrinth", "labyrinth_burn_in")])
    table = table[(table.agent == "lwm_dqn") & (table["size"] > 3)]
    shipped = table["size"].map({4: 16, 5: 0})
    burn_in = table.settings.map({"labyrinth burn_in:0": 0, "labyrinth burn_in:32": 32}).fillna(shipped)
    kinds = burn_in.map(lambda rows: f"{rows:.0f} steps of burn-in" if rows else "no burn-in")
    labelled = label_rows(table, table["size"].map("{0}x{0}, ".format) + kinds)
    return labelled.sort_values("up to step", kind="stable")


def more_updates_table() -> pd.DataFrame:
    """Return the table of trainings of twice the length: the evaluations of all seeds, and the minutes until them."""
    results = read_result("labyrinth_more_updates").sort_values(["steps", "seed"], kind="stable")
    evaluations = results[results.kind == "evaluation"]
    numbers = evaluations.groupby("steps").mean_steps.agg(lambda steps: " ".join(map(write_steps, steps)))
    minutes = results[results.kind == "training"].groupby("steps").wall_seconds.agg(lambda seconds: write_range(seconds / 60))
    table = pd.DataFrame({"steps of an episode": numbers, "minutes": minutes.reindex(numbers.index)}).reset_index()
    return table.assign(steps=table.steps.map(lambda steps: f"{steps / 1e6:g} million")).rename(columns={"steps": "after"})


def sparse_table(results: pd.DataFrame) -> pd.DataFrame:
    """
    :param results: The rows of a CSV of ``sparse_tasks.py``
    :return: A row for each task and agent, with one number for each seed, in their order: the thousands of steps by which 90 %
        of the episodes of an interval had succeeded, and the mean return and the success rate of the last interval
    """
    results = results.sort_values(["task", "agent", "seed", "steps"], kind="stable")
    who = ["task", "agent", "total_steps"]
    found = results[results.success >= 0.9].groupby([*who, "seed"]).steps.min() / 1000
    last = results.groupby([*who, "seed"]).last()
    columns = {
        "0.9 by (thousand steps)": found.reindex(last.index).map("{:.0f}".format, na_action="ignore").fillna("never"),
        "return at the end": last.mean_return.map("{:.2f}".format),
        "success at the end": last.success.map("{:.2f}".format),
    }
    table = pd.DataFrame({name: values.groupby(who).agg(" ".join) for name, values in columns.items()})
    table["minutes of CPU time"] = (last.cpu_seconds / 60).groupby(who).agg(write_range)
    table = table.reset_index()
    table["task"] = table.task.str.removeprefix("MiniGrid-").str.removesuffix("-v0")
    return table.assign(total_steps=table.total_steps // 1000).rename(columns={"total_steps": "thousand steps"})


def write_range(values: pd.Series) -> str:
    """Return the smallest and the largest number, without decimals."""
    low, high = f"{values.min():.0f}", f"{values.max():.0f}"
    return low if low == high else f"{low} to {high}"


def make_tables() -> dict[str, str]:
    """Return the content of each file in ``docs/results``, a table in Markdown."""
    early = training_table(read_result("labyrinth_3x3"))
    agents = early.agent.map({"lwm_dqn": "world model", "no-world-model": "no world model"})
    long = training_table(read_result("labyrinth_long_episodes"))
    tables = {
        "labyrinth.md": final_table(read_result("labyrinth")),
        "ablations.md": course_table(read_result("ablations")),
        "burn_in.md": burn_in_table(),
        "labyrinth_3x3.md": label_rows(early, agents),
        "minigrid.md": sparse_table(read_result("minigrid")),
        "more_updates.md": more_updates_table(),
        "long_episodes.md": label_rows(long, long["size"].map("{0}x{0}".format)),
    }
    return {name: to_markdown(table) + "\n" for name, table in tables.items()}


def main() -> None:
    """Write the files."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGES.mkdir(exist_ok=True)
    for name, table in make_tables().items():
        (PAGES / name).write_text(table, encoding="utf-8")
        print(f"Saved {PAGES / name}")


if __name__ == "__main__":
    main()
