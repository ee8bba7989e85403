"""
Pictures of the labyrinth results, from their CSV alone::

    python benchmarks/plot.py benchmarks/results/labyrinth.csv --walk benchmarks/results/labyrinth_walk.json \
        --output benchmarks/results

``labyrinth_curves`` has the learning curves, every seed as a thin line and their interquartile mean with its bootstrap
interval (rliable); ``labyrinth_steps`` the last evaluation of every seed as a dot, their mean as a bar, and the bounds as
lines; ``labyrinth_walk`` one episode of a trained agent (``labyrinth_walk.py``). All as PNG and SVG.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator, ScalarFormatter
from rliable import library, metrics
from walk_figure import draw_walk

from sb3_lwm.figures import save_figure

COLOURS = {"dqn": "tab:orange", "lwm_dqn": "tab:blue"}
BOUND_STYLES = {"random": ":", "search": "--", "map-known": "-"}
RESAMPLES = 2000
GREY = "0.35"
# of the steps of an episode, which are drawn logarithmically
TICKS = (10, 15, 20, 30, 50, 100, 200, 500, 1000)


def interquartile(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    :param curves: (seeds, points) float
    :return: (points,) interquartile mean over the seeds, and (2, points) its 95 % bootstrap interval
    """
    aggregate = {"all": curves[:, None, :]}
    means, intervals = library.get_interval_estimates(
        aggregate,
        lambda scores: np.array([metrics.aggregate_iqm(scores[..., point]) for point in range(scores.shape[-1])]),
        reps=RESAMPLES,
    )
    return means["all"], intervals["all"]


def draw_curves(results: pd.DataFrame) -> Figure:
    """
    :param results: rows of one or several sizes
    :return: a panel for each size
    """
    sizes = sorted(results["size"].unique())
    figure = Figure(figsize=(4.6 * len(sizes), 3.8), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    for axes, size in zip(panels, sizes, strict=True):
        rows = results[results["size"] == size]
        training = rows[rows.kind == "training"]
        for agent, part in training.groupby("agent"):
            # an interval in which no episode ended has no mean
            table = part.pivot_table("mean_steps", "seed", "steps").ffill(axis=1).dropna(axis=1)
            axes.plot(table.columns, table.T, color=COLOURS[agent], linewidth=0.8, alpha=0.8)
            if len(table) > 2:
                means, (low, high) = interquartile(table.to_numpy())
                axes.plot(table.columns, means, color=COLOURS[agent], linewidth=2.0, label=agent)
                axes.fill_between(table.columns, low, high, color=COLOURS[agent], alpha=0.15, linewidth=0.0)
            else:
                axes.plot([], [], color=COLOURS[agent], label=agent)
        _draw_bounds(axes, rows)
        axes.set(title=f"{size}x{size}", xlabel="steps of the training")
        axes.xaxis.set_major_formatter(EngFormatter())
    panels[0].set_ylabel("steps of an episode")
    panels[-1].legend(fontsize=8)
    return figure


def draw_steps(results: pd.DataFrame) -> Figure:
    """
    :param results: rows of one or several sizes
    :return: bars of the last evaluations
    """
    evaluations = results[results.kind == "evaluation"]
    last = evaluations[evaluations.steps == evaluations.groupby(["size", "agent", "seed"]).steps.transform("max")]
    sizes = sorted(results["size"].unique())
    figure = Figure(figsize=(3.2 * len(sizes), 3.8), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    for axes, size in zip(panels, sizes, strict=True):
        for place, (agent, part) in enumerate(last[last["size"] == size].groupby("agent")):
            axes.bar(place, part.mean_steps.mean(), width=0.6, color=COLOURS[agent], alpha=0.5, label=agent)
            axes.plot([place] * len(part), part.mean_steps, "o", color=COLOURS[agent], markersize=4)
        _draw_bounds(axes, results[results["size"] == size])
        axes.set(title=f"{size}x{size}", xticks=[])
    panels[0].set_ylabel("steps of an episode")
    panels[-1].legend(fontsize=8)
    return figure


def _draw_bounds(axes: Any, rows: pd.DataFrame) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    for row in rows[rows.kind == "bound"].itertuples():
        axes.axhline(row.mean_steps, color=GREY, linestyle=BOUND_STYLES[row.agent], linewidth=1.0, label=row.agent)


def main() -> None:
    """Read the CSV, write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="CSV of benchmarks/labyrinth.py")
    parser.add_argument("--walk", type=Path, help="JSON of benchmarks/labyrinth_walk.py")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    options = parser.parse_args()
    results = pd.read_csv(options.results)
    figures = {"labyrinth_curves": draw_curves(results), "labyrinth_steps": draw_steps(results)}
    if options.walk is not None:
        figures["labyrinth_walk"] = draw_walk(json.loads(options.walk.read_text(encoding="utf-8")))
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, options.output / f"{name}{suffix}")
            print(f"Saved {options.output / name}{suffix}")


if __name__ == "__main__":
    main()
