"""How games came to where they are: ale-py cannot save vectorised games, but it plays the same again."""

from typing import Any

import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from tqdm import tqdm

from sb3_lwm.envs.atari.shadow import AtariShadows

Info = dict[str, npt.NDArray[np.int32]]


class GameHistory:
    """
    The seed of each game's generator, how many games have begun since, and the actions of the game under way.

    That is all a game depends on without sticky actions: the generator of a game draws the number of no-ops at each reset and
    nothing else that matters, so that the earlier games need not be played again. (With sticky actions each frame draws.)

    :param n_envs: number of games
    :param is_sticky: whether actions are
    """

    def __init__(self, n_envs: int, is_sticky: bool) -> None:
        self.is_sticky = is_sticky
        self.seeds = np.full(n_envs, -1, dtype=np.int64)
        self.resets = np.zeros(n_envs, dtype=np.int64)
        self.actions = [bytearray() for _ in range(n_envs)]

    def restart(self, seeds: npt.NDArray[np.int64]) -> None:
        """:param seeds: (n_envs,) int64, negative for none"""
        self.resets = np.where(seeds >= 0, 1, self.resets + 1)
        self.seeds = np.where(seeds >= 0, seeds, self.seeds)
        for actions in self.actions:
            actions.clear()

    def add(self, actions: npt.NDArray[np.int64], game_ends: npt.NDArray[np.bool_]) -> None:
        """
        :param actions: (n_envs,) int64, as they were played in one step
        :param game_ends: (n_envs,) bool, where the next game has begun
        """
        for played, action, ends in zip(self.actions, actions.tolist(), game_ends.tolist(), strict=True):
            if ends:
                played.clear()
            else:
                played.append(action)
        self.resets += game_ends

    def get_state(self, lives: npt.NDArray[np.int32]) -> dict[str, Any]:
        """
        :param lives: (n_envs,) int32, to see whether the games come back
        :return: for :meth:`replay`
        :raises NotImplementedError: with sticky actions
        """
        if self.is_sticky:
            raise NotImplementedError("ale-py shows nobody the generator of an Atari game's sticky actions.")
        actions = [np.frombuffer(bytes(played), dtype=np.uint8) for played in self.actions]
        return {"seeds": self.seeds.copy(), "resets": self.resets.copy(), "actions": actions, "lives": lives.copy()}

    def replay(self, state: dict[str, Any], native: AtariVectorEnv, shadows: AtariShadows) -> Info:
        """
        Play the games under way again, so that all arrive together.

        :param state: from :meth:`get_state`
        :param native: to play with
        :param shadows: that follow
        :return: ale-py's info
        :raises RuntimeError: if ale-py plays other games
        """
        lengths = np.array([len(played) for played in state["actions"]])
        # partial resets need a whole one before them
        _, info = native.reset()
        none_ends = np.zeros(len(lengths), dtype=bool)
        for remaining in tqdm(range(lengths.max(), -1, -1), desc="Replaying the games", disable=None, leave=False):
            if (begins := lengths == remaining).any():
                info = self._begin(state, begins, native, shadows)
            if remaining > 0:
                plays = lengths >= remaining
                games = zip(state["actions"], lengths, plays, strict=True)
                # those that wait play anything: a seed makes all new
                actions = np.array([played[length - remaining] if goes else 0 for played, length, goes in games], np.int64)
                _, rewards, _, _, info = native.step(actions)
                shadows.follow(actions, rewards, none_ends, info, plays)
        self.seeds, self.resets = state["seeds"].copy(), state["resets"].copy()
        self.actions = [bytearray(played.tobytes()) for played in state["actions"]]
        frames = info["episode_frame_number"]
        if not (np.array_equal(info["lives"], state["lives"]) and (frames >= lengths).all()):
            raise RuntimeError(
                f"Played again, the games of the training state go otherwise, to {info['lives']} lives instead of "
                f"{state['lives']}: use its ale-py and its arguments."
            )
        return info

    def _begin(
        self, state: dict[str, Any], begins: npt.NDArray[np.bool_], native: AtariVectorEnv, shadows: AtariShadows
    ) -> Info:
        """Begin all games of some environments anew, one after the other, up to the game under way."""
        for number in range(int(state["resets"][begins].max())):
            envs = np.flatnonzero(begins & (state["resets"] > number))
            seeds = state["seeds"][envs] if number == 0 else np.full(len(envs), -1)
            mask = np.isin(np.arange(len(begins)), envs)
            _, info = native.reset(seed=seeds, options={"reset_mask": mask})
            for env, seed in zip(envs.tolist(), seeds.tolist(), strict=True):
                shadows.begin(env, seed, info)
        return info
