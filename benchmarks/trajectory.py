"""
The path of an episode in the embedding of each encoder (LWM, figure 3), t-SNE of the 32 dimensions, coloured by time::

    OMP_NUM_THREADS=1 python benchmarks/trajectory.py --output benchmarks/results/trajectory.png

The encoders are those of ``probes.py``, trained on random play of Montezuma's Revenge (``--cache`` of both finds them again);
the episode is the longest that they have not seen. An embedding that follows the game lays it out as a path.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch as th
from random_play import Play, as_images, cached_encoder, cached_play, select, split
from sklearn.manifold import TSNE

from sb3_lwm.world_model.objectives import OBJECTIVES

GAME, SEED, N_FRAMES = "MontezumaRevenge", 1, 50_000
# steps of the episode that are drawn
MAX_STEPS = 400


def longest_episode(data: Play) -> Play:
    """:return: the longest episode, at most ``MAX_STEPS`` of its steps"""
    episode = np.bincount(data.episodes).argmax()
    chosen = select(data, np.array([episode]))
    return chosen._replace(frames=chosen.frames[:MAX_STEPS])


def draw(embeddings: dict[str, np.ndarray], frames: np.ndarray, path: Path) -> None:
    """
    :param embeddings: (T, 2) of each encoder
    :param frames: (T, 84, 84) uint8
    :param path: of the picture
    """
    figure, axes = plt.subplots(2, 4, figsize=(14, 5.4), height_ratios=(2.4, 1), layout="constrained")
    for axis, (name, points) in zip(axes[0], embeddings.items(), strict=True):
        axis.plot(*points.T, color="0.8", linewidth=0.7, zorder=1)
        dots = axis.scatter(*points.T, c=np.arange(len(points)), cmap="viridis", s=7, zorder=2)
        axis.set_title(name)
        axis.set_xticks([]), axis.set_yticks([])
        for step in range(0, len(points), 50):
            axis.annotate(str(step), points[step], fontsize=8, xytext=(3, 3), textcoords="offset points")
    figure.colorbar(dots, ax=axes[0], label="step of the episode")
    for axis, step in zip(axes[1], np.linspace(0, len(frames) - 1, 4).astype(int), strict=True):
        axis.imshow(frames[step], cmap="gray")
        axis.set_title(f"step {step}", fontsize=9)
        axis.axis("off")
    figure.savefig(path, dpi=85)


def main() -> None:
    """Train or read the encoders, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=250, help="of the encoders")
    parser.add_argument("--cache", type=Path, help="folder to keep random play and encoders in, for other runs")
    parser.add_argument("--output", type=Path, required=True, help="PNG to draw")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    train, test = split(cached_play(arguments.cache, GAME, N_FRAMES, 0), SEED)
    episode = longest_episode(test)
    name = f"{GAME}_{N_FRAMES}"
    embeddings = {}
    for objective in OBJECTIVES:
        encoder, _ = cached_encoder(arguments.cache, name, train, objective, SEED, arguments.updates)
        with th.no_grad():
            latents = encoder(as_images(episode.frames)).numpy()
        standardised = (latents - latents.mean(axis=0)) / (latents.std(axis=0) + 1e-8)
        embeddings[objective] = TSNE(init="pca", random_state=SEED).fit_transform(standardised)
    draw(embeddings, episode.frames, arguments.output)


if __name__ == "__main__":
    main()
