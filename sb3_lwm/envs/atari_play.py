"""Play of an Atari game as data: what uniformly random actions show."""

from collections.abc import Sequence

import numpy as np
from ale_py.env import AtariEnv
from stable_baselines3.common.atari_wrappers import AtariWrapper
from tqdm import tqdm

from sb3_lwm.envs.atari_games import find_game
from sb3_lwm.type_aliases import Play

# a game ends here in Gymnasium's ALE/...-v5
MAX_FRAMES = 108_000
Row = tuple[np.ndarray, int, np.ndarray, int]


def check_packages() -> None:
    """:raises ImportError: if OpenCV, which resizes the frames, is not installed; names the extra"""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise ImportError("Playing Atari games for figures needs OpenCV: pip install 'sb3-lwm[figures]'.") from error


def make_atari(game: str) -> AtariWrapper:
    """
    :param game: id of a Gymnasium environment, such as ``"ALE/Frostbite-v5"``, or the name of a ROM
    :return: 84x84 grey frames, every fourth, maximum of the last two; a lost life ends the episode, no sticky actions
    :raises ValueError: if there is no such game
    :raises ImportError: if OpenCV, which resizes the frames, is not installed
    """
    check_packages()
    rom = find_game(game).rom
    env = AtariEnv(game=rom, frameskip=1, repeat_action_probability=0.0, max_num_frames_per_episode=MAX_FRAMES)
    return AtariWrapper(env, clip_reward=False)


def play_randomly(game: str, n_frames: int, seed: int) -> Play:
    """
    :param game: as for :func:`make_atari`
    :param n_frames: the episode in which this many frames are reached is the last
    :param seed: of the game and of the actions
    :return: what uniformly random actions show
    """
    env = make_atari(game)
    env.action_space.seed(seed)
    rows: list[Row] = []
    episode = 0
    with tqdm(total=n_frames, desc=f"Playing {game}", unit="frame", mininterval=1.0, disable=None) as progress:
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


def as_play(rows: list[Row], env: AtariWrapper) -> Play:
    """
    :param rows: frame (84, 84), action, memory (128,), number of the episode
    :param env: the game
    :return: the rows as columns
    """
    frames, actions, rams, episodes = (np.array(column) for column in zip(*rows, strict=True))
    return Play(frames, actions, rams, episodes, int(env.action_space.n))


def join(plays: Sequence[Play]) -> Play:
    """
    :param plays: of one game, at least one
    :return: all of their episodes, one after the other
    """
    first = np.cumsum([0, *(play.episodes[-1] + 1 for play in plays[:-1])])
    episodes = np.concatenate([play.episodes + number for play, number in zip(plays, first, strict=True)])
    frames, actions, rams = (np.concatenate([play[column] for play in plays]) for column in range(3))
    return Play(frames, actions, rams, episodes, plays[0].n_actions)
