"""Figures of a trajectory in an embedding, which show whether it forms a path there (LWM, figure 3)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sb3_lwm.figures.requirements import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The perplexity of t-SNE, approximately the number of neighbours that count; scikit-learn's default
PERPLEXITY = 30.0
COLOURS = "viridis"
# The number of steps between two numbers along the path, and the largest number of numbers, above which gaps are wider
NUMBERED, MOST_NUMBERS = 10, 60
# The numbers of rows and columns of key frames beside the panels
KEY_ROWS, KEY_COLUMNS = 4, 2


def check_trajectory(n_steps: int, perplexity: float = PERPLEXITY) -> None:
    """
    :param n_steps: The number of observations of the trajectory
    :param perplexity: The perplexity of t-SNE
    :raises ValueError: If the trajectory is too short for t-SNE
    """
    if n_steps <= perplexity:
        raise ValueError(
            f"A trajectory of {n_steps} steps is too short for t-SNE with a perplexity of {perplexity:g}, which needs more "
            "steps than that: record a longer one, or choose a lower perplexity."
        )


def lay_out(latents: npt.NDArray[Any], seed: int = 0, perplexity: float = PERPLEXITY) -> npt.NDArray[np.float32]:
    """
    Compute a t-SNE of a trajectory, initialised by its principal components. All dimensions have the same weight.

    :param latents: The latents of the trajectory, (T, Z) float
    :param seed: The seed of t-SNE, which does not affect any global generator
    :param perplexity: The perplexity of t-SNE
    :return: The points, (T, 2) float32; zeros if the latents never change
    :raises ImportError: If scikit-learn is not installed
    :raises ValueError: If there are too few steps
    """
    check_trajectory(len(latents), perplexity)
    changes = np.ptp(latents, axis=0) > 0.0
    if not changes.any():
        # an agent in front of a wall, for example, whose equal points t-SNE would divide by zero
        return np.zeros((len(latents), 2), np.float32)
    # a constant dimension becomes 0
    standardised = (latents - latents.mean(axis=0)) / np.where(changes, latents.std(axis=0), 1.0)
    tsne = require("sklearn.manifold").TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return tsne.fit_transform(standardised)


def draw_embeddings(
    layouts: Mapping[str, npt.NDArray[Any]],
    frames: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8] | None,
    title: str,
) -> "Figure":
    """
    Draw a trajectory in one or several embeddings, coloured by time and numbered, beside its key frames.

    :param layouts: The points of the trajectory, (T, 2), by the name of the embedding
    :param frames: The ``T`` pictures, (height, width) or (height, width, 3) uint8; None for no key frames
    :param title: The title of the figure
    :return: The figure, which needs no display
    :raises ImportError: If matplotlib is not installed
    """
    n_rows = 2 if len(layouts) > 2 else 1
    n_columns = -(-len(layouts) // n_rows)
    width = 5.0 * n_columns + (0.0 if frames is None else 2.8)
    figure: Figure = require("matplotlib.figure").Figure(figsize=(width, 4.6 * n_rows + 0.4), layout="constrained")
    panels: Any = figure
    beside: Any = None
    if frames is not None:
        panels, beside = figure.subfigures(1, 2, width_ratios=(5.0 * n_columns, 2.8))  # type: ignore[misc]
    figure.suptitle(title)
    axes = panels.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis, (name, points) in zip(axes, layouts.items(), strict=False):
        dots = _draw_path(axis, points, name)
    for axis in axes[len(layouts) :]:
        axis.axis("off")
    panels.colorbar(dots, ax=axes, label="step", shrink=0.8)
    if frames is not None:
        _draw_key_frames(beside, frames, n_rows)
    return figure


def _draw_path(axis: Any, points: npt.NDArray[Any], name: str) -> Any:
    """Draw a trajectory, and return its dots, for the colour bar."""
    axis.plot(*points.T, color="0.8", linewidth=0.7, zorder=1)
    dots = axis.scatter(*points.T, c=np.arange(len(points)), cmap=COLOURS, s=9, zorder=2)
    gap = NUMBERED * -(-len(points) // (NUMBERED * MOST_NUMBERS))
    for step in range(0, len(points), gap):
        axis.annotate(str(step), points[step], fontsize=7, xytext=(2, 2), textcoords="offset points")
    axis.set(title=name, xticks=[], yticks=[])
    return dots


def _draw_key_frames(figure: Any, frames: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], n_rows: int) -> None:
    """Draw the key frames into a part of the figure, beside panels in ``n_rows`` rows."""
    axes = figure.subplots(KEY_ROWS * n_rows // 2, KEY_COLUMNS).ravel()
    colours = require("matplotlib").colormaps[COLOURS]
    for axis, step in zip(axes, np.linspace(0, len(frames) - 1, len(axes)).round().astype(int), strict=True):
        axis.imshow(frames[step], cmap="gray", vmin=0, vmax=255)
        axis.set_title(str(step), fontsize=8, pad=2)
        axis.set(xticks=[], yticks=[])
        # the border has the colour of the step
        axis.spines[:].set(color=colours(step / max(1, len(frames) - 1)), linewidth=2)
