"""Play of an Atari game as data: frames, actions and the console's memory."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from ale_py.env import AtariEnv
from stable_baselines3.common.atari_wrappers import AtariWrapper
from tqdm import tqdm

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.envs.atari.games import find_game

# a game ends here in Gymnasium's ALE/...-v5
MAX_FRAMES = 108_000
# frame, action, memory, number of the episode
Row = tuple[np.ndarray, int, np.ndarray, int]
Choice = Callable[[np.ndarray, bool], int | None]


def check_packages() -> None:
    """:raises ImportError: if OpenCV, which resizes the frames, is not installed; names the extra"""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise ImportError("Playing Atari games for figures needs OpenCV: pip install 'sb3-lwm[figures]'.") from error


def make_atari(game: str, render_mode: Literal["rgb_array"] | None = None) -> AtariWrapper:
    """
    :param game: id of a Gymnasium environment, such as ``"ALE/Frostbite-v5"``, or the name of a ROM
    :param render_mode: None, or ``"rgb_array"``
    :return: 84x84 grey frames, every fourth, maximum of the last two; a lost life ends the episode, no sticky actions
    :raises ValueError: if there is no such game
    :raises ImportError: if OpenCV, which resizes the frames, is not installed
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
    :param env: from :func:`make_atari`
    :param seed: of the first reset; later ones go on with the same generator
    :param choose: gives the action for an observation, (84, 84) uint8, the first of an episode or not; None ends the play
    :return: what there was to see, the observation after the last action included
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
    :param rows: at least one
    :param env: the game
    :return: the rows as columns
    """
    frames, actions, rams, episodes = (np.array(column) for column in zip(*rows, strict=True))
    return Play(frames, actions, rams, episodes, int(env.action_space.n))  # type: ignore[attr-defined]


def play_randomly(game: str, n_frames: int, seed: int) -> Play:
    """
    :param game: as for :func:`make_atari`
    :param n_frames: the episode in which this many frames are reached is the last
    :param seed: of the game and of the actions
    :return: what uniformly random actions show
    """
    env = make_atari(game)
    env.action_space.seed(seed)
    n_seen = 0
    with tqdm(total=n_frames, desc=f"Playing {game}", unit="frame", mininterval=1.0, disable=None) as bar:

        def choose(observation: np.ndarray, is_start: bool) -> int | None:
            nonlocal n_seen
            # the last frame of the episode before counts, too
            n_new = 1 + (is_start and n_seen > 0)
            n_seen += n_new
            bar.update(n_new)
            return None if is_start and n_seen > n_frames else int(env.action_space.sample())

        return play_game(env, seed, choose)


def join(plays: Sequence[Play]) -> Play:
    """
    :param plays: of one game, at least one
    :return: all of their episodes, one after the other
    """
    first = np.cumsum([0, *(play.episodes[-1] + 1 for play in plays[:-1])])
    episodes = np.concatenate([play.episodes + number for play, number in zip(plays, first, strict=True)])
    frames, actions, rams = (np.concatenate([play[column] for play in plays]) for column in range(3))
    return Play(frames, actions, rams, episodes, plays[0].n_actions)
