"""Figures of the intrinsic reward along an episode: a curve, its spikes, and the frames at the spikes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sb3_lwm.common.files import whole_file
from sb3_lwm.figures.requirements import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_SPIKES = 6
# The number of steps around a spike that count as the same event
FARTHEST = 15
CURVE, SPIKE = "tab:blue", "tab:red"


def find_spikes(rewards: npt.ArrayLike, n_spikes: int = N_SPIKES) -> list[int]:
    """
    Find the highest values that are more than 15 steps apart, or fewer steps in an episode too short for this distance.

    :param rewards: The intrinsic rewards, (T,) float, NaN for missing ones
    :param n_spikes: The maximum number of spikes
    :return: The steps of the spikes in the order of time; all have values above the mean
    """
    left = np.array(rewards, dtype=float)
    distance = max(1, min(FARTHEST, len(left) // (2 * n_spikes)))
    known = ~np.isnan(left)
    if not known.any():
        return []
    left[~known | (left <= left[known].mean())] = -np.inf
    spikes: list[int] = []
    while len(spikes) < n_spikes and np.isfinite(left).any():
        spikes.append(int(left.argmax()))
        left[max(0, spikes[-1] - distance) : spikes[-1] + distance + 1] = -np.inf
    return sorted(spikes)


def draw_curve(axes: "Axes", rewards: npt.ArrayLike, spikes: Sequence[int], ylabel: str) -> None:
    """
    :param axes: Empty axes of matplotlib
    :param rewards: The intrinsic rewards, (T,) float, NaN for missing ones
    :param spikes: The steps to mark, with numbers from 1
    :param ylabel: The label of the vertical axis
    """
    values = np.asarray(rewards, dtype=float)
    axes.plot(values, linewidth=1.0, color=CURVE)
    axes.plot(spikes, values[list(spikes)], "o", color=SPIKE)
    for number, spike in enumerate(spikes, start=1):
        axes.annotate(str(number), (spike, values[spike]), xytext=(4, 2), textcoords="offset points")
    axes.set(xlabel="step of the episode", ylabel=ylabel)
    axes.margins(x=0.01, y=0.12)


def draw_novelty(
    rewards: npt.ArrayLike,
    frames: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8],
    title: str,
    ylabel: str = "intrinsic reward",
    n_spikes: int = N_SPIKES,
) -> "Figure":
    """
    Draw the intrinsic reward along an episode, and the frames at its highest spikes.

    :param rewards: The intrinsic rewards, (T,) float, NaN for missing ones
    :param frames: The ``T`` pictures, (height, width) or (height, width, 3) uint8
    :param title: The title of the figure
    :param ylabel: The label of the vertical axis
    :param n_spikes: The maximum number of spikes
    :return: The figure, which needs no display
    :raises ImportError: If matplotlib is not installed
    :raises ValueError: If there is not one frame for each reward
    """
    if len(np.asarray(rewards)) != len(frames):
        raise ValueError(f"{len(np.asarray(rewards))} rewards and {len(frames)} frames: give one frame for each reward.")
    spikes = find_spikes(rewards, n_spikes)
    figure: Figure = require("matplotlib.figure").Figure(figsize=(2.0 * n_spikes, 5.0), layout="constrained")
    grid = figure.add_gridspec(2, n_spikes)
    axes = figure.add_subplot(grid[0, :] if spikes else grid[:, :])
    draw_curve(axes, rewards, spikes, ylabel)
    axes.set_title(title)
    for column, spike in enumerate(spikes):
        picture = figure.add_subplot(grid[1, column])
        picture.imshow(frames[spike], cmap="gray", vmin=0, vmax=255)
        picture.set_title(f"{column + 1}: step {spike}", fontsize=9)
        picture.axis("off")
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """
    :param figure: A figure of matplotlib
    :param path: The path of a PNG or SVG file, which is written completely or not at all; its folder is created
    """
    from matplotlib import rc_context

    # without random ids and the time, so that SVG files of the same figure are equal
    with whole_file(path) as temporary, rc_context({"svg.hashsalt": "sb3_lwm"}):
        figure.savefig(temporary, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
