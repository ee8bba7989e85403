"""Scores of whole games, of the first games to finish (as in papers) and of the first games to start (without bias)."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

# The keys of an episode's record in SB3's Monitor: return, length and time
MONITOR_KEYS = ("r", "l", "t")


class Player(Protocol):
    """An object with SB3's ``predict``."""

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[np.ndarray, Any]:
        """See :meth:`stable_baselines3.common.base_class.BaseAlgorithm.predict`."""


class Game(NamedTuple):
    """One whole game: an Atari game with all its lives, or an episode."""

    started: int  # number of games that were started before this one
    score: float  # sum of the environment's rewards
    length: int  # number of agent steps
    visited: dict[str, int]  # other entries of the environment's record, such as the numbers of rooms and cells


class Scores(NamedTuple):
    """Two selections of the played games."""

    first_finished: list[Game]  # the first n games to finish, as in LWM, which favours short games
    first_started: list[Game]  # the first n games to start, all of them played to their end


def play_games(player: Player, env: VecEnv, n_games: int = 128, deterministic: bool = False) -> Scores:
    """
    Play until each of the first ``n_games`` games has ended.

    :param player: The agent; with ``deterministic=False``, :class:`~sb3_lwm.LWMDQN` takes random actions with the probability
        ``evaluation_eps``
    :param env: Environments whose infos have ``episode`` records of whole games: ``AtariVecEnv``, or environments in a
        ``Monitor``
    :param n_games: The number of games in each selection
    :param deterministic: Whether ``predict`` is deterministic
    :return: The games, each list in the order in which they finished
    :raises ValueError: If ``n_games`` is less than 1
    """
    if n_games < 1:
        raise ValueError(f"n_games={n_games}: play at least one game.")
    playing = np.arange(env.num_envs)
    finished: list[Game] = []
    observations, state, starts = env.reset(), None, np.ones(env.num_envs, dtype=bool)
    with tqdm(total=n_games, desc="Games", unit="game", mininterval=1.0, disable=None) as bar:
        remaining = n_games
        while remaining > 0:
            actions, state = player.predict(observations, state, starts, deterministic)
            observations, _, starts, infos = env.step(actions)
            for index in range(env.num_envs):
                # an Atari game continues after a lost life, which ends an episode for the learner
                if (record := infos[index].get("episode")) is not None:
                    visited = {name: record[name] for name in record if name not in MONITOR_KEYS}
                    finished.append(Game(int(playing[index]), float(record["r"]), int(record["l"]), visited))
                    remaining -= int(playing[index] < n_games)
                    bar.update(n_games - remaining - bar.n)
                    playing[index] = env.num_envs + len(finished) - 1
    return Scores(finished[:n_games], [game for game in finished if game.started < n_games])
