"""Functions that the benchmarks of the image encoder share: saved random play, its parts, and results to be continued."""

import platform
from pathlib import Path

import ale_py
import gymnasium as gym
import numpy as np
import pandas as pd
import sklearn
import stable_baselines3
import torch as th

import sb3_lwm
from sb3_lwm.common.type_aliases import Play
from sb3_lwm.envs.atari.play import play_randomly

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


def cached_play(folder: Path | None, game: str, n_frames: int, seed: int) -> Play:
    """
    Return random play, from the folder if it is already there.

    :param folder: The folder of saved play; None to save none
    :param game: The name of the game
    :param n_frames: The number of frames
    :param seed: The seed of the game and the actions
    :return: The episodes
    """
    if folder is None:
        return play_randomly(f"ALE/{game}-v5", n_frames, seed)
    path = folder / f"{game}_{n_frames}_{seed}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **play_randomly(f"ALE/{game}-v5", n_frames, seed)._asdict())
    with np.load(path) as saved:
        data = Play(**{name: saved[name] for name in Play._fields})
    return data._replace(n_actions=int(data.n_actions))


def select(data: Play, episodes: np.ndarray) -> Play:
    """
    :param data: The random play
    :param episodes: The numbers of episodes
    :return: These episodes only
    """
    chosen = np.isin(data.episodes, episodes)
    return Play(*(column[chosen] for column in data[:4]), data.n_actions)


def split(data: Play, seed: int, held_out: float = 0.2) -> tuple[Play, Play]:
    """
    :param data: The random play
    :param seed: The seed of the draw
    :param held_out: The share of the episodes in the second part
    :return: Two parts without a common episode
    """
    episodes = np.random.default_rng(seed).permutation(np.unique(data.episodes))
    n_held_out = max(1, round(held_out * len(episodes)))
    return select(data, episodes[n_held_out:]), select(data, episodes[:n_held_out])


def read_results(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV; an empty table if it does not exist."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def is_done(results: pd.DataFrame, cell: dict[str, object]) -> bool:
    """Return whether the results have a row of this cell."""
    return not results.empty and bool((results[list(cell)] == pd.Series(cell)).all(axis=1).any())


def append_results(path: Path, rows: list[dict[str, object]]) -> None:
    """Add rows to the CSV, with the versions of the packages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.concat([read_results(path), pd.DataFrame([row | VERSIONS for row in rows])])
    table.to_csv(path, index=False, float_format="%.6g")
