"""Episodes of an Atari game as data: frames, actions and the console's memory."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from ale_py.env import AtariEnv
from stable_baselines3.common.atari_wrappers import AtariWrapper
from tqdm import tqdm

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.envs.atari.games import find_game

# The number of frames after which Gymnasium's ALE/...-v5 truncates a game
MAX_FRAMES = 108_000
# Frame, action, memory, number of the episode
Row = tuple[np.ndarray, int, np.ndarray, int]
Choice = Callable[[np.ndarray, bool], int | None]


def check_packages() -> None:
    """:raises ImportError: If OpenCV, which resizes the frames, is not installed; the message names the extra"""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise ImportError("Playing Atari games for figures needs OpenCV: pip install 'sb3-lwm[figures]'.") from error


def make_atari(game: str, render_mode: Literal["rgb_array"] | None = None) -> AtariWrapper:
    """
    :param game: The id of a Gymnasium environment, such as ``"ALE/Frostbite-v5"``, or the name of a ROM
    :param render_mode: The render mode, None or ``"rgb_array"``
    :return: The environment without sticky actions: its observations are every fourth frame, grey, 84x84, the maximum of the
        last two; a lost life ends the episode
    :raises ValueError: If the game does not exist
    :raises ImportError: If OpenCV, which resizes the frames, is not installed
    """
    check_packages()
    env = AtariEnv(
        game=find_game(game).rom,
        frameskip=1,
        repeat_action_probability=0.0,
        max_num_frames_per_episode=MAX_FRAMES,
        render_mode=render_mode,
    )
    return AtariWrapper(env, clip_reward=False)


def play_game(env: AtariWrapper, seed: int, choose: Choice) -> Play:
    """
    :param env: The environment, made by :func:`make_atari`
    :param seed: The seed of the first reset; later ones continue the same generator
    :param choose: The function that chooses the action, from the observation, (84, 84) uint8, and whether it is the first of
        an episode; it returns None to stop
    :return: The played episodes, with the observation after the last action
    """
    rows: list[Row] = []
    episode, is_start = 0, True

    def keep(action: int) -> None:
        rows.append((observation[..., 0], action, env.unwrapped.ale.getRAM(), episode))  # type: ignore[attr-defined]

    observation, _ = env.reset(seed=seed)
    while (action := choose(observation[..., 0], is_start)) is not None:
        keep(action)
        observation, _, terminated, truncated, _ = env.step(action)
        is_start = terminated or truncated
        if is_start:
            keep(0)
            observation, _ = env.reset()
            episode += 1
    if not is_start:
        keep(0)
    return as_play(rows, env)


def as_play(rows: Sequence[Row], env: AtariWrapper) -> Play:
    """
    :param rows: The rows, at least one
    :param env: The environment
    :return: The rows as columns
    """
    frames, actions, rams, episodes = (np.array(column) for column in zip(*rows, strict=True))
    return Play(frames, actions, rams, episodes, int(env.action_space.n))  # type: ignore[attr-defined]


def play_randomly(game: str, n_frames: int, seed: int) -> Play:
    """
    :param game: The id of an environment, or the name of a ROM
    :param n_frames: The number of frames after which the present episode is the last
    :param seed: The seed of the game and of the actions
    :return: The episodes of uniformly random play
    """
    env = make_atari(game)
    env.action_space.seed(seed)
    n_seen = 0
    with tqdm(total=n_frames, desc=f"Playing {game}", unit="frame", mininterval=1.0, disable=None) as bar:

        def choose(observation: np.ndarray, is_start: bool) -> int | None:
            nonlocal n_seen
            # at the start of an episode, the last frame of the one before is counted as well
            n_new = 1 + (is_start and n_seen > 0)
            n_seen += n_new
            bar.update(n_new)
            return None if is_start and n_seen > n_frames else int(env.action_space.sample())

        return play_game(env, seed, choose)


def join(plays: Sequence[Play]) -> Play:
    """
    :param plays: The parts to join, all of one game, at least one
    :return: The episodes of all parts, one after the other
    """
    first = np.cumsum([0, *(play.episodes[-1] + 1 for play in plays[:-1])])
    episodes = np.concatenate([play.episodes + number for play, number in zip(plays, first, strict=True)])
    frames, actions, rams = (np.concatenate([play[column] for play in plays]) for column in range(3))
    return Play(frames, actions, rams, episodes, plays[0].n_actions)
