"""An encoder of images that learns from recorded play, without an agent: for figures and for comparisons of encoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import set_random_seed
from tqdm import tqdm

from sb3_lwm.common.files import whole_file
from sb3_lwm.common.type_aliases import Play
from sb3_lwm.world_model.actions import ActionEncoder
from sb3_lwm.world_model.encoders import ImageEncoder
from sb3_lwm.world_model.objectives import make_objective

# LWM, section 5
LEARNING_RATE, LATENT_SIZE = 5e-4, 32
IMAGES = spaces.Box(0, 255, (1, 84, 84), np.uint8)
# the paper's updates of W-MSE and of inverse dynamics embed 512 frames, those of CPC 1024
UPDATE_COSTS = {"w-mse": 1, "inverse-dynamics": 1, "cpc": 2}
# frames that are embedded at once
PART = 1024


def as_images(frames: np.ndarray) -> th.Tensor:
    """:return: the same (..., 84, 84) uint8 frames with a channel, (..., 1, 84, 84)"""
    return th.as_tensor(np.expand_dims(frames, -3))


def embed(encoder: ImageEncoder, frames: np.ndarray) -> np.ndarray:
    """
    :param encoder: of images
    :param frames: (N, 84, 84) uint8
    :return: (N, Z) float32, in parts whose convolutions fit into the memory
    """
    with th.inference_mode():
        return np.concatenate([encoder(as_images(part)).numpy() for part in np.array_split(frames, 1 + len(frames) // PART)])


def windows(play: Play, length: int) -> np.ndarray:
    """
    :param play: of a game
    :param length: of a window, in rows
    :return: (n,) int64, the first rows of all windows that lie within one episode
    """
    return np.flatnonzero(play.episodes[: len(play.episodes) - length + 1] == play.episodes[length - 1 :])


def train_encoder(play: Play, objective_name: str, seed: int, n_updates: int) -> tuple[ImageEncoder, dict[str, float]]:
    """
    :param play: to learn from
    :param objective_name: a key of ``OBJECTIVES``
    :param seed: of the weights and of the windows
    :param n_updates: updates of 512 frames; one of CPC embeds 1024 and counts twice
    :return: the encoder, and the mean of what the last tenth of the updates logged
    :raises ValueError: if there is no such objective, or no episode is as long as its windows
    """
    set_random_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = ImageEncoder(IMAGES, LATENT_SIZE)
    objective = make_objective(objective_name, LATENT_SIZE, ActionEncoder(spaces.Discrete(play.n_actions)))
    if not objective.trains_encoder:
        return encoder, {}
    optimizer = th.optim.Adam([*encoder.parameters(), *objective.parameters()], LEARNING_RATE)
    starts = windows(play, objective.sequence_length)
    if not len(starts):
        raise ValueError(
            f"No episode of the play has the {objective.sequence_length} frames of a window of {objective_name}: play longer."
        )
    logs: list[dict[str, float]] = []
    bar = tqdm(
        range(n_updates // UPDATE_COSTS[objective_name]),
        desc=f"{objective_name}, seed {seed}",
        unit="update",
        mininterval=1.0,
    )
    for _ in bar:
        rows = rng.choice(starts, objective.batch_size) + np.arange(objective.sequence_length)[:, None]
        loss, scalars = objective.loss(encoder, as_images(play.frames[rows]), th.as_tensor(play.actions[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        logs.append({"loss": loss.item()} | {name: value.item() for name, value in scalars.items()})
        bar.set_postfix(logs[-1], refresh=False)
    last = logs[-max(1, len(logs) // 10) :]
    return encoder, {name: float(np.mean([log[name] for log in last])) for name in (last[0] if last else {})}


def save_encoder(path: Path, encoder: ImageEncoder, settings: dict[str, Any], logs: dict[str, float]) -> None:
    """
    :param path: of the file, which appears when it is whole; its folder is made
    :param encoder: of images
    :param settings: numbers and strings that say how it was trained
    :param logs: of the end of its training
    """
    with whole_file(path) as temporary:
        th.save({"weights": encoder.state_dict(), "settings": settings, "logs": logs}, temporary)


def load_encoder(path: Path, settings: dict[str, Any]) -> tuple[ImageEncoder, dict[str, float]]:
    """
    :param path: of a file that :func:`save_encoder` has written
    :param settings: that it must have been trained with
    :return: the encoder, and what was logged at the end of its training
    :raises ValueError: if the file is of something else, or of other settings
    """
    try:
        saved = th.load(path, weights_only=True)
        found = saved["settings"]
    except Exception as error:
        raise ValueError(f"{path} is no encoder, or was cut short ({error}): delete it to train it again.") from error
    if found != settings:
        raise ValueError(f"{path} was trained with {found}, not with {settings}: delete it, or choose another folder.")
    encoder = ImageEncoder(IMAGES, LATENT_SIZE)
    encoder.load_state_dict(saved["weights"])
    return encoder, saved["logs"]


def cached_encoder(
    folder: Path | None, name: str, get_play: Callable[[], Play], objective_name: str, seed: int, n_updates: int
) -> tuple[ImageEncoder, dict[str, float]]:
    """
    As :func:`train_encoder`, but an encoder that the folder already holds is read.

    :param folder: where encoders are kept; None: nowhere
    :param name: of the play
    :param get_play: gives the play to learn from, if it is needed
    :param objective_name: a key of ``OBJECTIVES``
    :param seed: of the weights and of the windows
    :param n_updates: see :func:`train_encoder`
    :return: the encoder, and what was logged at the end of its training
    """
    if folder is None:
        return train_encoder(get_play(), objective_name, seed, n_updates)
    settings = {"play": name, "objective": objective_name, "updates": n_updates, "seed": seed}
    path = folder / f"{name}_{objective_name}_{n_updates}_{seed}.pth"
    if path.exists():
        return load_encoder(path, settings)
    encoder, logs = train_encoder(get_play(), objective_name, seed, n_updates)
    save_encoder(path, encoder, settings, logs)
    return encoder, logs
