"""What the benchmarks of the image encoder share: random play of an Atari game, and an encoder that is trained on it."""

import platform
from pathlib import Path
from typing import NamedTuple

import ale_py
import gymnasium as gym
import numpy as np
import pandas as pd
import sklearn
import stable_baselines3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.utils import set_random_seed
from tqdm import tqdm

import sb3_lwm
from sb3_lwm.world_model.encoders import ImageEncoder
from sb3_lwm.world_model.objectives import make_objective

FRAME_SIZE, LATENT_SIZE = 84, 32
IMAGES = spaces.Box(0, 255, (1, FRAME_SIZE, FRAME_SIZE), np.uint8)
LEARNING_RATE = 5e-4
# the paper's updates of W-MSE and of inverse dynamics embed 512 frames, those of CPC 1024
UPDATE_COSTS = {"w-mse": 1, "inverse-dynamics": 1, "cpc": 2}
VERSIONS = {
    "sb3_lwm": sb3_lwm.__version__,
    "stable_baselines3": stable_baselines3.__version__,
    "gymnasium": gym.__version__,
    "ale_py": ale_py.__version__,
    "torch": th.__version__,
    "numpy": np.__version__,
    "sklearn": sklearn.__version__,
    "python": platform.python_version(),
}

gym.register_envs(ale_py)


class Play(NamedTuple):
    """Whole episodes, one after the other. The last frame of an episode has no action: 0."""

    frames: np.ndarray  # (N, 84, 84) uint8
    actions: np.ndarray  # (N,) int64, taken at the frame
    rams: np.ndarray  # (N, 128) uint8, the console's memory at the frame
    episodes: np.ndarray  # (N,) int64, number of the episode
    n_actions: int  # of the game


def make_atari(game: str) -> gym.Env:
    """
    :param game: a game of ale-py, as ``"Frostbite"``
    :return: 84x84 grey frames, every fourth, maximum of the last two; a lost life ends the episode, no sticky actions
    """
    env = gym.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=0.0)
    return AtariWrapper(env, clip_reward=False)


def play(game: str, n_frames: int, seed: int) -> Play:
    """
    :param game: a game of ale-py
    :param n_frames: the episode in which this many frames are reached is the last
    :param seed: of the game and of the actions
    :return: what uniformly random actions show
    """
    env = make_atari(game)
    env.action_space.seed(seed)
    rows: list[tuple[np.ndarray, int, np.ndarray, int]] = []
    episode = 0
    with tqdm(total=n_frames, desc=f"Playing {game}", unit="frame", mininterval=1.0) as progress:
        while len(rows) < n_frames:
            observation, _ = env.reset(seed=seed if episode == 0 else None)
            done, start = False, len(rows)
            while not done:
                action = int(env.action_space.sample())
                rows.append((observation[..., 0], action, env.unwrapped.ale.getRAM(), episode))
                observation, _, terminated, truncated, _ = env.step(action)
                done = terminated or truncated
            rows.append((observation[..., 0], 0, env.unwrapped.ale.getRAM(), episode))
            progress.update(len(rows) - start)
            episode += 1
    return as_play(rows, env)


def as_play(rows: list[tuple[np.ndarray, int, np.ndarray, int]], env: gym.Env) -> Play:
    """
    :param rows: frame (84, 84), action, memory (128,), number of the episode
    :param env: the game
    :return: the rows as columns
    """
    frames, actions, rams, episodes = (np.array(column) for column in zip(*rows, strict=True))
    return Play(frames, actions, rams, episodes, int(env.action_space.n))


def cached_play(folder: Path | None, game: str, n_frames: int, seed: int) -> Play:
    """
    As :func:`play`, but what the folder already holds is read.

    :param folder: where play is kept; None: nowhere
    """
    if folder is None:
        return play(game, n_frames, seed)
    path = folder / f"{game}_{n_frames}_{seed}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **play(game, n_frames, seed)._asdict())
    with np.load(path) as saved:
        data = Play(**{name: saved[name] for name in Play._fields})
    return data._replace(n_actions=int(data.n_actions))


def select(data: Play, episodes: np.ndarray) -> Play:
    """
    :param data: random play
    :param episodes: numbers of episodes
    :return: these episodes only
    """
    chosen = np.isin(data.episodes, episodes)
    return Play(*(column[chosen] for column in data[:4]), data.n_actions)


def split(data: Play, seed: int, held_out: float = 0.2) -> tuple[Play, Play]:
    """
    :param data: random play
    :param seed: of the draw
    :param held_out: share of the episodes in the second part
    :return: two parts which have no episode in common
    """
    episodes = np.random.default_rng(seed).permutation(np.unique(data.episodes))
    n_held_out = max(1, round(held_out * len(episodes)))
    return select(data, episodes[n_held_out:]), select(data, episodes[:n_held_out])


def windows(data: Play, length: int) -> np.ndarray:
    """
    :param data: random play
    :param length: of a window, in rows
    :return: (n,) int64, the first rows of all windows that lie within one episode
    """
    return np.flatnonzero(data.episodes[: len(data.episodes) - length + 1] == data.episodes[length - 1 :])


def as_images(frames: np.ndarray) -> th.Tensor:
    """:return: the same (..., 84, 84) uint8 frames with a channel, (..., 1, 84, 84)"""
    return th.as_tensor(np.expand_dims(frames, -3))


def train_encoder(data: Play, objective_name: str, seed: int, n_updates: int) -> tuple[ImageEncoder, dict[str, float]]:
    """
    :param data: random play to learn from
    :param objective_name: of the encoder
    :param seed: of the weights and of the windows
    :param n_updates: updates of 512 frames; one of CPC embeds 1024 and counts twice
    :return: the encoder, and the mean of what the last tenth of the updates logged
    """
    set_random_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = ImageEncoder(IMAGES, LATENT_SIZE)
    objective = make_objective(objective_name, LATENT_SIZE, data.n_actions)
    if not objective.trains_encoder:
        return encoder, {}
    optimizer = th.optim.Adam([*encoder.parameters(), *objective.parameters()], LEARNING_RATE)
    starts = windows(data, objective.sequence_length)
    logs = []
    updates = range(n_updates // UPDATE_COSTS[objective_name])
    bar = tqdm(updates, desc=f"{objective_name}, seed {seed}", unit="update", mininterval=1.0)
    for _ in bar:
        rows = rng.choice(starts, objective.batch_size) + np.arange(objective.sequence_length)[:, None]
        frames, actions = as_images(data.frames[rows]), th.as_tensor(data.actions[rows])
        loss, scalars = objective.loss(encoder, frames, actions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        logs.append({"loss": loss.item()} | {name: value.item() for name, value in scalars.items()})
        bar.set_postfix(logs[-1], refresh=False)
    return encoder, pd.DataFrame(logs[-max(1, len(logs) // 10) :]).mean().to_dict()


def cached_encoder(
    folder: Path | None, name: str, data: Play, objective_name: str, seed: int, n_updates: int
) -> tuple[ImageEncoder, dict[str, float]]:
    """
    As :func:`train_encoder`, but an encoder that the folder already holds is read.

    :param folder: where encoders are kept; None: nowhere
    :param name: of the data
    """
    if folder is None:
        return train_encoder(data, objective_name, seed, n_updates)
    path = folder / f"{name}_{objective_name}_{n_updates}_{seed}.pth"
    if not path.exists():
        encoder, logs = train_encoder(data, objective_name, seed, n_updates)
        folder.mkdir(parents=True, exist_ok=True)
        th.save({"weights": encoder.state_dict(), "logs": logs}, path)
        return encoder, logs
    saved = th.load(path, weights_only=True)
    encoder = ImageEncoder(IMAGES, LATENT_SIZE)
    encoder.load_state_dict(saved["weights"])
    return encoder, saved["logs"]


def read_results(path: Path) -> pd.DataFrame:
    """:return: what the CSV already holds; nothing if there is none"""
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def is_done(results: pd.DataFrame, cell: dict[str, object]) -> bool:
    """:return: whether the results have a row of this cell"""
    return not results.empty and bool((results[list(cell)] == pd.Series(cell)).all(axis=1).any())


def append_results(path: Path, rows: list[dict[str, object]]) -> None:
    """Add rows, with the versions that made them, to the CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.concat([read_results(path), pd.DataFrame([row | VERSIONS for row in rows])])
    table.to_csv(path, index=False, float_format="%.6g")
