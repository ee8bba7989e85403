"""The figure of one episode in a labyrinth: the map, the path, and the intrinsic reward at each step."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from labyrinth_bounds import SHIFTS
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

NEW, OLD = "tab:orange", "tab:blue"
# The distance of the path to the right of the direction of a step, in widths of a cell, which separates there and back
ASIDE = 0.13


def first_visits(path: np.ndarray) -> np.ndarray:
    """
    :param path: The cells of the path, (T, 2) int
    :return: Whether each step leads to a new cell, (T,) bool
    """
    _, first = np.unique(path, axis=0, return_index=True)
    return np.isin(np.arange(len(path)), first)


def draw_walk(walk: Mapping[str, Any]) -> Figure:
    """
    :param walk: The content of the file of ``labyrinth_walk.py``
    :return: The figure, with the map and the path on the left, and the intrinsic rewards on the right
    """
    path, passages = np.array(walk["path"]), np.array(walk["passages"], dtype=bool)
    rewards = np.array(walk["intrinsic_rewards"], dtype=float)
    is_new, steps = first_visits(path), np.arange(len(path))
    figure = Figure(figsize=(10.0, 3.9), layout="constrained")
    labyrinth, curve = figure.subplots(1, 2, width_ratios=[1.0, 1.55])
    _draw_map(labyrinth, passages)
    lines = _draw_path(labyrinth, path)
    for step in steps[is_new]:
        text = labyrinth.text(path[step, 1], path[step, 0], str(step), ha="center", va="center", fontsize=8)
        # a white border, since the path is close to the number
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    labyrinth.plot(path[0, 1], path[0, 0], "o", color="tab:red", markersize=15, fillstyle="none", label="start")
    labyrinth.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.0), frameon=False)
    labyrinth.set_title(f"{walk['env']}: {len(path) - 1} steps", fontsize=10)
    figure.colorbar(lines, ax=labyrinth, label="step", shrink=0.8)
    for chosen, colour, label in ((is_new, NEW, "a new cell"), (~is_new, OLD, "a cell seen before")):
        curve.bar(steps[chosen][steps[chosen] > 0], rewards[chosen & (steps > 0)], color=colour, label=label)
    curve.axhline(0.0, color="0.3", linewidth=0.8)
    curve.set(xlabel="step", ylabel="intrinsic reward (standard deviations)", title="intrinsic reward of each step")
    curve.title.set_fontsize(10)
    curve.legend(fontsize=8)
    return figure


def _draw_map(axes: Any, passages: np.ndarray) -> None:
    """Draw the walls of a map, (size, size, 4) bool."""
    size = len(passages)
    walls = []
    for row, column, action in zip(*np.nonzero(~passages), strict=True):
        down, right = SHIFTS[action]
        # the middle of the wall, and half of its length along it
        y, x = row + down / 2, column + right / 2
        walls.append([(x - down / 2, y - right / 2), (x + down / 2, y + right / 2)])
    axes.add_collection(LineCollection(walls, colors="0.2", linewidths=2.0))
    axes.set(xlim=(-0.6, size - 0.4), ylim=(size - 0.4, -0.6), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_path(axes: Any, path: np.ndarray) -> LineCollection:
    """Draw a path, (T, 2) int, and return its lines, coloured by the step."""
    segments, colours = [], []
    for step, (start, end) in enumerate(itertools.pairwise(path), start=1):
        down, right = end - start
        # to the right of the direction; rows count downwards
        aside = ASIDE * np.array([-down, right])
        if down or right:
            segments.append([start[::-1] + aside, end[::-1] + aside])
            colours.append(step)
    lines = LineCollection(segments, cmap="viridis", linewidths=2.5, capstyle="round")
    lines.set_array(np.array(colours))
    axes.add_collection(lines)
    return lines
