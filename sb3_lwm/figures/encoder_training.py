"""Training of an encoder of images on recorded episodes, without an agent: for figures and comparisons of encoders."""

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
# The cost of an update: in the paper, W-MSE and inverse dynamics embed 512 frames, CPC 1024
UPDATE_COSTS = {"w-mse": 1, "inverse-dynamics": 1, "cpc": 2}
# The number of frames that are embedded at once
PART = 1024


def as_images(frames: np.ndarray) -> th.Tensor:
    """
    :param frames: The frames, (..., 84, 84) uint8
    :return: The frames with a channel dimension, (..., 1, 84, 84) uint8
    """
    return th.as_tensor(np.expand_dims(frames, -3))


def embed(encoder: ImageEncoder, frames: np.ndarray) -> np.ndarray:
    """
    :param encoder: The encoder of images
    :param frames: The frames, (N, 84, 84) uint8
    :return: The latents, (N, Z) float32, computed in parts that fit into the memory
    """
    with th.inference_mode():
        return np.concatenate([encoder(as_images(part)).numpy() for part in np.array_split(frames, 1 + len(frames) // PART)])


def windows(play: Play, length: int) -> np.ndarray:
    """
    :param play: The episodes of a game
    :param length: The number of rows of a window
    :return: The first rows of all windows that lie within one episode, (n,) int64
    """
    return np.flatnonzero(play.episodes[: len(play.episodes) - length + 1] == play.episodes[length - 1 :])


def train_encoder(play: Play, objective_name: str, seed: int, n_updates: int) -> tuple[ImageEncoder, dict[str, float]]:
    """
    :param play: The episodes from which the encoder learns
    :param objective_name: A key of ``OBJECTIVES``
    :param seed: The seed of the weights and of the windows
    :param n_updates: The number of updates of 512 frames; one of CPC embeds 1024 frames and counts twice
    :return: The encoder, and the mean of the values that the last tenth of the updates has logged
    :raises ValueError: If the objective does not exist, or no episode is as long as its windows
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
    :param path: The path of the file, which is written completely or not at all; its folder is created
    :param encoder: The encoder of images
    :param settings: The settings of its training, numbers and strings
    :param logs: The values that were logged at the end of its training
    """
    with whole_file(path) as temporary:
        th.save({"weights": encoder.state_dict(), "settings": settings, "logs": logs}, temporary)


def load_encoder(path: Path, settings: dict[str, Any]) -> tuple[ImageEncoder, dict[str, float]]:
    """
    :param path: The path of a file that :func:`save_encoder` has written
    :param settings: The required settings of its training
    :return: The encoder, and the values that were logged at the end of its training
    :raises ValueError: If the file is not an encoder, or has other settings
    """
    try:
        saved = th.load(path, weights_only=True)
        found = saved["settings"]
    except Exception as error:
        raise ValueError(f"{path} is not an encoder, or was cut short ({error}): delete it to train it again.") from error
    if found != settings:
        raise ValueError(f"{path} was trained with {found}, not with {settings}: delete it, or choose another folder.")
    encoder = ImageEncoder(IMAGES, LATENT_SIZE)
    encoder.load_state_dict(saved["weights"])
    return encoder, saved["logs"]


def cached_encoder(
    folder: Path | None, name: str, get_play: Callable[[], Play], objective_name: str, seed: int, n_updates: int
) -> tuple[ImageEncoder, dict[str, float]]:
    """
    Load an encoder if the folder already contains it, else train it by :func:`train_encoder` and save it.

    :param folder: The folder of the encoders; None to save and load no files
    :param name: The name of the episodes, for the names of the files
    :param get_play: The function that returns the episodes, called only for a training
    :param objective_name: A key of ``OBJECTIVES``
    :param seed: The seed of the weights and of the windows
    :param n_updates: The number of updates, see :func:`train_encoder`
    :return: The encoder, and the values that were logged at the end of its training
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
