"""Games of several environments, ordered as they finish or as they start; a lost life does not end a game."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm.common.evaluation import play_games


class ScriptedGames(VecEnv):
    """
    Environment ``i`` plays games of ``lengths[i]`` steps each, whose score is their length. A learner's episode ends in the
    middle of each game as well, as when a life is lost.

    :param lengths: The length of the games of each environment
    """

    def __init__(self, lengths: list[int]) -> None:
        super().__init__(len(lengths), spaces.Discrete(2), spaces.Discrete(2))
        self.lengths = np.array(lengths)
        self.steps = np.zeros(len(lengths), dtype=int)

    def reset(self) -> np.ndarray:
        self.steps[:] = 0
        return self.steps % 2

    def step_async(self, actions: np.ndarray) -> None:
        self.steps += 1

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        over = self.steps == self.lengths
        infos: list[dict[str, Any]] = [{} for _ in self.lengths]
        for index in np.flatnonzero(over):
            infos[index] = {"episode": {"r": float(self.lengths[index]), "l": self.lengths[index], "rooms": index + 1}}
        dones = over | (self.steps == self.lengths // 2)
        self.steps[over] = 0
        return self.steps % 2, np.zeros(self.num_envs), dones, infos

    def close(self) -> None: ...

    def get_attr(self, *args: Any) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, *args: Any) -> None:
        raise NotImplementedError

    def env_method(self, *args: Any, **kwargs: Any) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, *args: Any) -> list[bool]:
        return [True] * self.num_envs


class Counter:
    """Plays action 0, and counts the starts of episodes."""

    def __init__(self) -> None:
        self.starts = 0

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[np.ndarray, Any]:
        assert state is None or state == "memory"
        self.starts += int(np.sum(episode_start))
        return np.zeros(len(observation), dtype=int), "memory"


def test_first_finished_prefers_short_games_and_first_started_does_not() -> None:
    scores = play_games(Counter(), ScriptedGames([10, 4]), n_games=3)
    # the short games end after 4, 8 and 12 steps, the long one after 10; the third to start began after 4 steps
    assert [(game.started, game.score) for game in scores.first_finished] == [(1, 4.0), (2, 4.0), (0, 10.0)]
    assert [(game.started, game.score) for game in scores.first_started] == [(1, 4.0), (2, 4.0), (0, 10.0)]
    scores = play_games(Counter(), ScriptedGames([20, 4]), n_games=3)
    assert [game.score for game in scores.first_finished] == [4.0, 4.0, 4.0]
    assert sorted(game.score for game in scores.first_started) == [4.0, 4.0, 20.0]
    assert [(game.length, game.visited) for game in scores.first_started[-2:]] == [(4, {"rooms": 2}), (20, {"rooms": 1})]


def test_more_environments_than_games() -> None:
    scores = play_games(Counter(), ScriptedGames([6, 6, 2, 2]), n_games=2)
    assert [game.score for game in scores.first_finished] == [2.0, 2.0]
    assert [(game.started, game.score) for game in scores.first_started] == [(0, 6.0), (1, 6.0)]


def test_hidden_states_are_reset_after_a_lost_life() -> None:
    player = Counter()
    play_games(player, ScriptedGames([10]), n_games=1)
    # at the start and in the middle
    assert player.starts == 2


def test_number_of_games_must_be_positive() -> None:
    with pytest.raises(ValueError, match="n_games=0"):
        play_games(Counter(), ScriptedGames([3]), n_games=0)
