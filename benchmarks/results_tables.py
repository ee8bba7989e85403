"""The README's tables of labyrinth results, made of their CSV alone."""

import pandas as pd


def final_table(results: pd.DataFrame) -> pd.DataFrame:
    """
    :param results: rows of a CSV of ``labyrinth.py`` or ``ablations.py``
    :return: mean steps of bounds and of last evaluations: a row for each agent, a column for each size; in a cell one number
        for each seed, in their order
    """
    # bounds have neither; a CSV of bounds alone has no such columns
    results = results.reindex(columns=results.columns.union(["seed", "steps"], sort=False))
    counted = results[results.kind != "training"].sort_values("steps", kind="stable")
    last = counted.assign(seed=counted.seed.fillna(0)).groupby(["agent", "size", "seed"]).mean_steps.last()
    cells = last.map(write_steps).groupby(["agent", "size"]).agg(" ".join)
    table = cells.unstack("size", fill_value="").reindex(results.agent.unique())
    return table.rename(columns={size: f"{size}x{size}" for size in table}).reset_index()


def course_table(results: pd.DataFrame) -> pd.DataFrame:
    """
    :param results: rows of one size, of which some are of trainings
    :return: mean steps of all evaluations during the trainings, and the minutes that these took: a row for each agent and seed
    """
    trained = results.dropna(subset="seed").astype({"seed": int})
    evaluations = trained[trained.kind == "evaluation"]
    steps = evaluations.pivot(index=["agent", "seed"], columns="steps", values="mean_steps").map(write_steps)
    seconds = trained[trained.kind == "training"].groupby(["agent", "seed"]).wall_seconds.max()
    table = steps.rename(columns=lambda step: f"{step / 1000:g}k").assign(minutes=(seconds / 60).map("{:.0f}".format))
    return table.reindex(pd.MultiIndex.from_frame(evaluations[["agent", "seed"]].drop_duplicates())).reset_index()


def training_table(results: pd.DataFrame) -> pd.DataFrame:
    """
    :param results: rows of a CSV
    :return: mean steps of the episodes that ended in each interval of a training, epsilon in them, and of its last evaluation;
        a row for each size, agent, settings and seed
    """
    training = results.dropna(subset="seed").astype({"seed": int}).sort_values("steps", kind="stable")
    who = ["size", "agent", "settings", "seed"]
    means = training[training.kind == "training"].pivot(index=who, columns="steps", values="mean_steps")
    last = training[training.kind == "evaluation"].groupby(who).mean_steps.last()
    table = means.map("{:.1f}".format, na_action="ignore").rename(columns=lambda step: f"{step / 1000:g}k")
    return table.assign(evaluation=last.map(write_steps)).reset_index()


def write_steps(steps: float) -> str:
    """:return: one decimal below 100 steps, none above"""
    return f"{steps:.1f}" if steps < 100 else f"{steps:.0f}"


def to_markdown(table: pd.DataFrame) -> str:
    """:return: lines of the table"""
    rows = [list(table), ["---"] * len(table.columns), *table.fillna("").to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
