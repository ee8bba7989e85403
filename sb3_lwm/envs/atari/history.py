"""The past actions of games: ale-py cannot save vectorised games, but it can replay them exactly."""

from typing import Any

import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from tqdm import tqdm

from sb3_lwm.envs.atari.shadow import AtariShadows

Info = dict[str, npt.NDArray[np.int32]]


class GameHistory:
    """
    The seed of each environment's generator, the number of games since then, and the actions of the present game.

    Without sticky actions the present game depends on nothing else: the generator only draws the number of no-ops at each
    reset, so that earlier games need not be replayed. (With sticky actions each frame draws a number.)

    :param n_envs: The number of games
    :param is_sticky: Whether actions are sticky
    """

    def __init__(self, n_envs: int, is_sticky: bool) -> None:
        self.is_sticky = is_sticky
        self.seeds = np.full(n_envs, -1, dtype=np.int64)
        self.resets = np.zeros(n_envs, dtype=np.int64)
        self.actions = [bytearray() for _ in range(n_envs)]

    def restart(self, seeds: npt.NDArray[np.int64]) -> None:
        """:param seeds: The seeds of the games, (n_envs,) int64, negative for no new seed"""
        self.resets = np.where(seeds >= 0, 1, self.resets + 1)
        self.seeds = np.where(seeds >= 0, seeds, self.seeds)
        for actions in self.actions:
            actions.clear()

    def add(self, actions: npt.NDArray[np.int64], game_ends: npt.NDArray[np.bool_]) -> None:
        """
        :param actions: The actions that were played in one step, (n_envs,) int64
        :param game_ends: Whether each game has ended and the next one begun, (n_envs,) bool
        """
        for played, action, ends in zip(self.actions, actions.tolist(), game_ends.tolist(), strict=True):
            if ends:
                played.clear()
            else:
                played.append(action)
        self.resets += game_ends

    def get_state(self, lives: npt.NDArray[np.int32]) -> dict[str, Any]:
        """
        :param lives: The lives in each game, (n_envs,) int32, with which :meth:`replay` checks its result
        :return: The state for :meth:`replay`
        :raises NotImplementedError: With sticky actions
        """
        if self.is_sticky:
            raise NotImplementedError("ale-py gives no access to the generator of an Atari game's sticky actions.")
        actions = [np.frombuffer(bytes(played), dtype=np.uint8) for played in self.actions]
        return {"seeds": self.seeds.copy(), "resets": self.resets.copy(), "actions": actions, "lives": lives.copy()}

    def replay(self, state: dict[str, Any], native: AtariVectorEnv, shadows: AtariShadows) -> Info:
        """
        Replay the present games; the shorter ones start later, so that all end at the same step.

        :param state: The result of :meth:`get_state`
        :param native: The vectorised environment of ale-py
        :param shadows: The shadows, which follow the games
        :return: The info of ale-py after the last step
        :raises RuntimeError: If ale-py does not reproduce the games
        """
        lengths = np.array([len(played) for played in state["actions"]])
        # partial resets are only allowed after a whole one
        _, info = native.reset()
        none_ends = np.zeros(len(lengths), dtype=bool)
        for remaining in tqdm(range(lengths.max(), -1, -1), desc="Replaying the games", disable=None, leave=False):
            if (begins := lengths == remaining).any():
                info = self._begin(state, begins, native, shadows)
            if remaining > 0:
                plays = lengths >= remaining
                games = zip(state["actions"], lengths, plays, strict=True)
                # games that have not started yet play arbitrary actions, since their start resets them with a seed
                actions = np.array([played[length - remaining] if goes else 0 for played, length, goes in games], np.int64)
                _, rewards, _, _, info = native.step(actions)
                shadows.follow(actions, rewards, none_ends, info, plays)
        self.seeds, self.resets = state["seeds"].copy(), state["resets"].copy()
        self.actions = [bytearray(played.tobytes()) for played in state["actions"]]
        frames = info["episode_frame_number"]
        if not (np.array_equal(info["lives"], state["lives"]) and (frames >= lengths).all()):
            raise RuntimeError(
                f"The replay of the training state's games differs: it ends with {info['lives']} lives instead of "
                f"{state['lives']}. Use the ale-py and the arguments of that training."
            )
        return info

    def _begin(
        self, state: dict[str, Any], begins: npt.NDArray[np.bool_], native: AtariVectorEnv, shadows: AtariShadows
    ) -> Info:
        """Reset some environments as often as in the training, up to the start of their present games."""
        for number in range(int(state["resets"][begins].max())):
            envs = np.flatnonzero(begins & (state["resets"] > number))
            seeds = state["seeds"][envs] if number == 0 else np.full(len(envs), -1)
            mask = np.isin(np.arange(len(begins)), envs)
            _, info = native.reset(seed=seeds, options={"reset_mask": mask})
            for env, seed in zip(envs.tolist(), seeds.tolist(), strict=True):
                shadows.begin(env, seed, info)
        return info
