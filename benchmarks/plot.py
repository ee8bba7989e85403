"""
Figures and tables of the labyrinth results, made from their CSVs alone::

    python benchmarks/plot.py benchmarks/results/labyrinth.csv benchmarks/results/ablations.csv \
        --walk benchmarks/results/labyrinth_walk.json --output benchmarks/results

``<name of the CSV>_curves`` shows the evaluations during the training: each seed as a thin line and, for four seeds or more,
their interquartile mean with its bootstrap interval (rliable). ``<name of the CSV>_steps`` shows the last evaluation of each
seed as a dot, their mean as a bar, and the bounds as lines. ``labyrinth_walk`` shows one episode of a trained agent
(``labyrinth_walk.py``). All figures are written as PNG and SVG. The tables are printed in Markdown.
"""

import argparse
import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from curves import draw_seeds
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator, ScalarFormatter
from results_tables import course_table, final_table, to_markdown, training_table, write_steps
from walk_figure import draw_walk

from sb3_lwm.figures import save_figure

# The agents with which the others are compared, in labyrinth.csv and in ablations.csv
REFERENCES = ("lwm_dqn", "complete")
BOUND_STYLES = {"random": ":", "search": "--", "map-known": "-"}
GREY = "0.35"
# The width of the panels of bars, relative to the steps of depth-first search
WIDTH = 1.5
# The ticks of the curves' vertical axis, the steps of an episode on a logarithmic scale
TICKS = (10, 15, 20, 30, 50, 100, 200, 500, 1000)


def find_mixed(results: pd.DataFrame) -> str | None:
    """
    :param results: The rows of a CSV
    :return: A description of an agent with trainings of different settings or lengths; None if there is no such agent
    """
    trainings = results.dropna(subset="settings").groupby(["size", "agent", "seed", "settings"]).steps.max().reset_index()
    for (size, agent), rows in trainings.groupby(["size", "agent"]):
        kinds = [f"{row.settings} for {row.steps:.0f} steps" for row in rows.itertuples()]
        if len(kinds := sorted(set(kinds))) > 1:
            return f"{agent} of size {size}: {' and '.join(kinds)}"
    return None


def draw_curves(results: pd.DataFrame) -> Figure:
    """
    :param results: The rows of one or several sizes
    :return: The figure, with a panel for each size and agent: its learning curves and those of the reference
    """
    evaluations = results[results.kind == "evaluation"]
    pairs = list(evaluations[["size", "agent"]].drop_duplicates().itertuples(index=False))
    others = [pair for pair in pairs if pair.agent not in REFERENCES]
    compared = {pair.size for pair in others}
    shown = others + [pair for pair in pairs if pair.size not in compared]
    n_shown = collections.Counter(pair.size for pair in shown)
    figure, panels = _panels(len(shown), height=3.0, sharey=True)
    for axes, (size, agent) in zip(panels, shown, strict=True):
        rows = evaluations[evaluations["size"] == size]
        # the reference is drawn last, above the other agent
        beside = rows[rows.agent.isin([agent, *REFERENCES])].groupby("agent")
        for name, part in sorted(beside, key=lambda pair: pair[0] in REFERENCES):
            # with several other agents, the title of a panel names its agent
            label = name if name in REFERENCES or max(n_shown.values()) == 1 else "agent of the title"
            draw_seeds(axes, part.pivot_table("mean_steps", "seed", "steps"), _colour(name), label)
        for row in results[(results["size"] == size) & (results.kind == "bound")].itertuples():
            axes.axhline(row.mean_steps, color=GREY, linestyle=BOUND_STYLES[row.agent], linewidth=1.0, label=row.agent)
        axes.set(title=f"{size}x{size}: {agent}" if n_shown[size] > 1 else f"{size}x{size}", xlabel="steps of the training")
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.yaxis.set_tick_params(labelleft=True)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_locator(FixedLocator(TICKS))
    panels[0].yaxis.set_major_formatter(ScalarFormatter())
    panels[0].yaxis.set_minor_locator(NullLocator())
    figure.supylabel("steps of an episode (log)", fontsize=10)
    _add_legend(figure, panels)
    return figure


def draw_steps(results: pd.DataFrame) -> Figure:
    """
    :param results: The rows of one or several sizes
    :return: The figure, with a panel of bars of the last evaluations for each size; bars far beyond depth-first search are
        cut, with an arrow instead of the dot; the numbers of all seeds are beside the bars
    """
    evaluations = results[results.kind == "evaluation"]
    last = evaluations[evaluations.steps == evaluations.groupby(["size", "agent", "seed"]).steps.transform("max")]
    sizes = sorted(results["size"].unique())
    agents = list(dict.fromkeys(last.agent))
    figure, panels = _panels(len(sizes), height=1.4 + 0.4 * len(agents))
    for axes, size in zip(panels, sizes, strict=True):
        bounds = results[(results["size"] == size) & (results.kind == "bound")].set_index("agent").mean_steps
        end = WIDTH * bounds.get("search", 2.0 * last.mean_steps.min())
        for place, agent in enumerate(agents):
            steps = last[(last["size"] == size) & (last.agent == agent)].sort_values("seed").mean_steps
            if len(steps) > 0:
                axes.barh(place, steps.mean(), height=0.6, color=_colour(agent), alpha=0.5)
            for value in steps:
                marker = "o" if value < end else ">"
                axes.plot(min(value, end), place, marker, color=_colour(agent), markersize=4, clip_on=False)
            numbers = "  ".join(write_steps(value) for value in steps)
            axes.text(1.03 * end, place, numbers, verticalalignment="center", fontsize=8)
        for bound, steps in bounds[bounds < end].items():
            axes.axvline(steps, color=GREY, linestyle=BOUND_STYLES[bound], linewidth=1.0, label=bound)
        numbers = ", ".join(f"{bound} {steps:.1f}" for bound, steps in bounds.items())
        axes.set(
            title=f"{size}x{size}", xlabel=f"steps of an episode\n{numbers}", yticks=range(len(agents)), yticklabels=agents
        )
        if (steps := bounds.get("random", 0.0)) >= end:
            where = {"horizontalalignment": "right", "verticalalignment": "center", "bbox": {"color": "white", "pad": 1.0}}
            axes.text(0.98 * end, -0.6, f"random {write_steps(steps)} →", fontsize=8, color=GREY, **where)
        axes.text(1.03 * end, -0.6, "each seed", verticalalignment="center", fontsize=8, color=GREY)
        axes.set_xlim(0.0, end)
        axes.set_ylim(len(agents) - 0.4, -0.9)
    _add_legend(figure, panels)
    return figure


def _panels(number: int, height: float, sharey: bool = False) -> tuple[Figure, list[Any]]:
    columns = min(number, 3)
    rows = -(-number // columns)
    figure = Figure(figsize=(4.4 * columns, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=sharey).flatten().tolist()
    for axes in panels[number:]:
        axes.remove()
    return figure, panels[:number]


def _add_legend(figure: Figure, panels: list[Any]) -> None:
    """Add one legend for all panels, below them."""
    entries = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if entries:
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=len(entries), fontsize=8)


def _colour(agent: str) -> str:
    return "tab:blue" if agent in REFERENCES else "tab:orange"


def read(path: Path) -> pd.DataFrame:
    """
    :param path: The path of a CSV
    :return: The rows of the CSV
    :raises ValueError: If they cannot be drawn
    """
    results = pd.read_csv(path)
    if not {"size", "agent", "seed", "steps", "settings", "kind", "mean_steps", "wall_seconds"} <= set(results.columns):
        raise ValueError(f"{path} is not a CSV of trainings, made by labyrinth.py or ablations.py.")
    if mixed := find_mixed(results):
        raise ValueError(f"{path}, {mixed}: use a separate CSV for each.")
    return results


def print_tables(title: str, results: pd.DataFrame) -> None:
    """Print the last evaluations, then all evaluations of each size, then the means of the trainings."""
    print(f"\n{title}: mean steps of an episode, each seed\n\n{to_markdown(final_table(results))}\n")
    for size, rows in results.dropna(subset="seed").groupby("size"):
        print(f"{title}, {size}x{size}: evaluations by steps of the training\n\n{to_markdown(course_table(rows))}\n")
    print(f"{title}: during the training, by its steps, and after it\n\n{to_markdown(training_table(results))}\n")


def main() -> None:
    """Read the CSVs, print the tables, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "results", type=Path, nargs="+", help="The CSVs of benchmarks/labyrinth.py and benchmarks/ablations.py"
    )
    parser.add_argument("--walk", type=Path, help="The JSON file of benchmarks/labyrinth_walk.py")
    parser.add_argument("--output", type=Path, required=True, help="The folder for the figures")
    options = parser.parse_args()
    try:
        tables = {path.stem: read(path) for path in options.results}
    except ValueError as error:
        parser.error(str(error))
    # the seed of the bootstrap
    np.random.seed(0)
    figures: dict[str, Figure] = {}
    for stem, results in tables.items():
        print_tables(stem, results)
        figures |= {f"{stem}_curves": draw_curves(results), f"{stem}_steps": draw_steps(results)}
    if options.walk is not None:
        figures["labyrinth_walk"] = draw_walk(json.loads(options.walk.read_text(encoding="utf-8")))
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, options.output / f"{name}{suffix}")
            print(f"Saved {options.output / name}{suffix}")


if __name__ == "__main__":
    main()
