"""Learning curves of several seeds, and their interquartile mean by rliable (Agarwal et al. 2021)."""

from typing import Any

import numpy as np
import pandas as pd
from rliable import library, metrics

# The number of bootstrap samples
RESAMPLES = 2000
# Of fewer seeds the interquartile mean is the mean, and its interval hardly more than their range
SEEDS_FOR_INTERVAL = 4


def interquartile(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    :param curves: (seeds, points) float, or (seeds, tasks, points); the bootstrap draws the seeds of each task on their own
    :return: (points,) interquartile mean over seeds and tasks, and (2, points) its 95 % bootstrap interval
    """
    aggregate = {"all": curves.reshape(len(curves), -1, curves.shape[-1])}
    means, intervals = library.get_interval_estimates(
        aggregate,
        lambda scores: np.array([metrics.aggregate_iqm(scores[..., point]) for point in range(scores.shape[-1])]),
        reps=RESAMPLES,
    )
    return means["all"], intervals["all"]


def draw_seeds(axes: Any, curves: pd.DataFrame, colour: str, label: str) -> None:
    """
    Draw a thin line for each seed; of four seeds or more also their interquartile mean with its interval.

    :param axes: The axes of matplotlib
    :param curves: A row for each seed, a column for each evaluation
    :param colour: The colour of the lines
    :param label: The label in the legend
    """
    axes.plot(curves.columns, curves.T, color=colour, linewidth=0.8, alpha=0.8)
    if len(curves) < SEEDS_FOR_INTERVAL:
        axes.plot([], [], color=colour, label=label)
        return
    draw_interquartile(axes, np.asarray(curves.columns), curves.to_numpy(), colour, label)


def draw_interquartile(axes: Any, points: np.ndarray, curves: np.ndarray, colour: str, label: str) -> None:
    """
    :param axes: The axes of matplotlib
    :param points: (points,) float, the places of the points
    :param curves: The argument of :func:`interquartile`
    :param colour: The colour of the line
    :param label: The label in the legend
    """
    means, (low, high) = interquartile(curves)
    axes.plot(points, means, color=colour, linewidth=2.0, label=label)
    axes.fill_between(points, low, high, color=colour, alpha=0.15, linewidth=0.0)
