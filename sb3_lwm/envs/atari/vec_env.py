"""Atari games on the threads of ale-py, as a vectorised environment of Stable-Baselines3."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from sb3_lwm.envs.atari.coverage import Coverage
from sb3_lwm.envs.atari.games import INT32_SIZE, SIDE, check_actions, check_settings, find_game, start_games
from sb3_lwm.envs.atari.history import GameHistory
from sb3_lwm.envs.atari.records import GameRecords
from sb3_lwm.envs.atari.shadow import AtariShadow, AtariShadows

FRAMES_PER_SECOND = 60


class AtariVecEnv(VecEnv):
    """
    Atari games with the preprocessing of SB3's ``AtariWrapper``, on C++ threads instead of one Python wrapper per game.

    - Observation: ``Box(0, 255, (1, 84, 84), uint8)``, one grey frame, the maximum of a step's last two.
    - A step plays an action for ``frame_skip`` frames. A game begins with 0 to ``noop_max - 1`` frames of no-ops.
    - A lost life ends the learner's episode (``terminal_on_life_loss``), and the game continues. ``infos[i]["episode"]`` has
      the score of whole games only, as with SB3's ``Monitor`` around a game: ``evaluate_policy`` reports these.
    - After ``max_episode_steps`` steps a game is truncated (``TimeLimit.truncated``).
    - ``step_async`` starts a step on the threads and returns at once. It may be called again with the same actions before
      ``step_wait``, and then does nothing.
    - The same seed and actions give the same run, whatever the number of threads.

    Differences from ``AtariWrapper``:

    - Rewards, lives and ends are the same. Frames are converted to grey before the maximum, not after it, so that pixels
      differ by at most 0.05 of 255 on average; both are resized by area, and in Breakout they are identical.
    - The first action of every life is FIRE, in games that have it (``use_fire_reset``), whatever the chosen action: many
      games wait for it. SB3 plays it between two episodes, without an observation for the agent, then the third action,
      and a no-op before both after a lost life. Here every step has an observation: the frame that ends one life begins
      the next.
    - Rewards are not clipped by default; SB3 starts with 1 to ``noop_max`` no-ops.
    - The time-out counts the steps of a game, without its no-ops. At a time-out or the end of a game, ale-py does not draw
      the last frame: ``terminal_observation`` may be up to 4 frames older.
    - ``VecMonitor`` is not needed, and would count every life as an episode.

    :param game: The id of a Gymnasium environment (``"MontezumaRevengeNoFrameskip-v4"``; ``"ALE/MontezumaRevenge-v5"``, with
        sticky actions), its specification, or the name of a ROM (``"montezuma_revenge"``). Its own frame skip and time
        limit are not used
    :param n_envs: The number of parallel games
    :param seed: The seed; game ``i`` gets ``seed + i``. None draws one from NumPy's global generator
    :param repeat_action_probability: The probability of sticky actions; None for that of the id
    :param max_episode_steps: The number of steps after which a game is truncated
    :param frame_skip: The number of frames of a step
    :param noop_max: The upper bound, exclusive, of the number of frames of no-ops at the start of a game
    :param use_fire_reset: Whether the first action of every life is FIRE, in games that have it
    :param terminal_on_life_loss: Whether a lost life ends an episode
    :param full_action_space: Whether there are all 18 actions; None for the setting of the id, by default the game's own set
    :param clip_reward: Whether rewards are clipped to -1, 0 and 1; scores in the records are not clipped
    :param num_threads: The number of threads; 0 for one per game, up to the number of cores
    :param render_mode: The render mode, ``"rgb_array"``, ``"human"`` or None; unless it is None, every game has a shadow
    :param monitor_dir: The folder of the records, one ``<number>.monitor.csv`` per game; None writes no files
    :param override_existing: Whether files of an earlier run are overwritten; if False they are continued
    :param ram_envs: The number of games with a shadow, an additional emulator that plays the same game in the calling thread,
        for ``env_method("get_ram")``: the last games, which explore least if epsilons differ. If the player's position can
        be read from the RAM, the records of these games have its counts (``rooms``, ``cells``, ``keys``, ``doors``),
        ``coverage`` has those of the whole training, and ``discoveries.csv`` in ``monitor_dir`` has each cell with the step
        of its first visit: see :class:`~sb3_lwm.envs.atari.coverage.Coverage`
    :raises ValueError: If the game does not exist, or an argument is out of its range
    """

    def __init__(
        self,
        game: str | EnvSpec,
        n_envs: int,
        *,
        seed: int | None = None,
        repeat_action_probability: float | None = None,
        max_episode_steps: int = 10_000,
        frame_skip: int = 4,
        noop_max: int = 30,
        use_fire_reset: bool = True,
        terminal_on_life_loss: bool = True,
        full_action_space: bool | None = None,
        clip_reward: bool = False,
        num_threads: int = 0,
        render_mode: str | None = None,
        monitor_dir: str | Path | None = None,
        override_existing: bool = True,
        ram_envs: int = 0,
    ) -> None:
        check_settings(locals())
        max_frames = max_episode_steps * frame_skip
        found = find_game(game, repeat_action_probability, full_action_space)
        self.spec = found.spec
        self.terminal_on_life_loss = terminal_on_life_loss
        self.clip_reward = clip_reward
        self._native: AtariVectorEnv | None = start_games(
            found, n_envs, num_threads, max_frames, frame_skip, noop_max, terminal_on_life_loss
        )
        followed = range(0 if render_mode else max(n_envs - ram_envs, 0), n_envs)
        self.coverage = Coverage(found.rom, monitor_dir if followed else None, override_existing)
        self._shadows = AtariShadows(found, followed, frame_skip, max_frames, render_mode == "human", self.coverage)
        self._action_meanings = [action.name for action in self._native.ale.get_action_set()]
        pressed = use_fire_reset and "FIRE" in self._action_meanings
        self._fire = self._action_meanings.index("FIRE") if pressed else None
        columns = [self._shadows.columns(env) for env in range(n_envs)]
        self._records = GameRecords(found.spec.id if found.spec else found.rom, monitor_dir, columns, override_existing)
        self._history = GameHistory(n_envs, is_sticky=found.repeat_action_probability > 0.0)
        self._chosen: npt.NDArray[np.int64] | None = None
        self._played = np.zeros(n_envs, dtype=np.int64)
        # None until the first reset
        self._lives: npt.NDArray[np.int32] | None = None
        self._frames_before = np.zeros(n_envs, dtype=np.int32)
        self._life_begins = np.ones(n_envs, dtype=bool)
        # the constructor of the base class needs both
        self.num_envs, self.render_mode = n_envs, render_mode
        super().__init__(n_envs, spaces.Box(0, 255, (1, SIDE, SIDE), np.uint8), spaces.Discrete(len(self._action_meanings)))
        self.metadata["render_fps"] = FRAMES_PER_SECOND // frame_skip  # type: ignore[assignment]
        self.seed(seed)

    # --- Playing ---

    def reset(self) -> npt.NDArray[np.uint8]:
        """
        Restart every game. A step that has been started is finished first.

        :return: The first observations, (n_envs, 1, 84, 84) uint8
        :raises RuntimeError: If the environment is closed
        """
        native = self._require_open()
        if self._chosen is not None:
            self.step_wait()
        seeds = np.array([-1 if seed is None else seed % INT32_SIZE for seed in self._seeds], dtype=np.int64)
        self._reset_seeds()
        observations, state = native.reset(seed=seeds)
        self._lives = state["lives"]
        self._frames_before = state["frame_number"] - state["episode_frame_number"]
        self._life_begins[:] = True
        self._records.restart()
        self._shadows.reset(seeds, state)
        self._history.restart(seeds)
        self.reset_infos = [{"lives": int(lives)} for lives in self._lives]
        return observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """
        Start a step on the threads.

        :param actions: The actions, (n_envs,) int
        :raises ValueError: If the actions have another shape or dtype, or one is out of range
        :raises RuntimeError: Before the first reset, or if a step with other actions has been started
        """
        native = self._require_open()
        chosen = check_actions(actions, self.num_envs, self._action_meanings)
        if self._lives is None:
            raise RuntimeError("There is no game yet: call reset() before step().")
        if self._chosen is not None:
            if not np.array_equal(chosen, self._chosen):
                raise RuntimeError("Other actions are under way: call step_wait() before step_async() with new ones.")
            return
        self._chosen = chosen
        self._played = chosen if self._fire is None else np.where(self._life_begins, self._fire, chosen)
        native.send(self._played)

    def step_wait(self) -> VecEnvStepReturn:
        """
        Wait until the step has been played.

        :return: The observations (n_envs, 1, 84, 84) uint8, rewards (n_envs,) float32, dones (n_envs,) bool, and infos
        :raises RuntimeError: If no step has been started, or a shadow plays another game
        """
        native = self._require_open()
        if self._chosen is None or self._lives is None:
            raise RuntimeError("No actions are under way: call step_async() first.")
        observations, rewards, terminated, truncated, state = native.recv()
        self._chosen = None
        # the frames of earlier games, whose change is the only sign that ale-py has reset a game
        frames_before = state["frame_number"] - state["episode_frame_number"]
        game_ends = frames_before != self._frames_before
        lives, lives_before = state["lives"], self._lives
        life_lost = ~game_ends & (lives > 0) & (lives < lives_before)
        dones = game_ends | life_lost if self.terminal_on_life_loss else game_ends
        self._records.add(rewards)
        self._history.add(self._played, game_ends)
        infos: list[dict[str, Any]] = [{"lives": count} for count in lives.tolist()]
        seen = self._shadows.follow(self._played, rewards, game_ends, state)
        for env in np.flatnonzero(dones).tolist():
            # only a game that ends has a final observation; after a lost life it continues from the present one
            final = state["final_obs"] if game_ends[env] else observations
            infos[env]["terminal_observation"] = final[env].copy()
            infos[env]["TimeLimit.truncated"] = bool(truncated[env])
            if game_ends[env]:
                infos[env]["lives"] = 0 if terminated[env] else int(lives_before[env])
                infos[env]["episode"] = self._records.finish(env, **seen.get(env, {}))
        self.coverage.end_step(self.num_envs)
        self._lives, self._frames_before = lives, frames_before
        self._life_begins = game_ends | life_lost
        paid = np.sign(rewards) if self.clip_reward else rewards
        return observations, paid.astype(np.float32), dones, infos

    def close(self) -> None:
        """Stop the threads and close the files; may be called again."""
        if self._native is not None and self._chosen is not None:
            self._native.recv()
        self._native = self._chosen = None
        self._records.close()

    def get_training_state(self) -> dict[str, Any] | None:
        """
        :return: The past actions of the present games, the records, and the actions of a started step; None before the first
            reset
        :raises NotImplementedError: With sticky actions
        """
        if self._lives is None:
            return None
        parts = {"history": self._history.get_state(self._lives), "records": self._records.get_state()}
        return {
            **parts,
            "coverage": self.coverage.get_state(),
            "life_begins": self._life_begins.copy(),
            "chosen": self._chosen,
        }

    def set_training_state(self, state: dict[str, Any] | None) -> None:
        """
        Replay the present games of a state from their beginnings, with a progress bar.

        :param state: The result of :meth:`get_training_state` of the same game with the same arguments
        :raises RuntimeError: If ale-py does not reproduce the games
        """
        if state is None:
            return
        self._reset_seeds()
        info = self._history.replay(state["history"], self._require_open(), self._shadows)
        self._lives, self._life_begins = info["lives"], state["life_begins"].copy()
        self._frames_before = info["frame_number"] - info["episode_frame_number"]
        self._records.set_state(state["records"])
        # replaces the counts of the replay
        self.coverage.set_state(state["coverage"])
        if state["chosen"] is not None:
            self.step_async(state["chosen"])

    # --- Looking ---

    def get_images(self) -> list[npt.NDArray[np.uint8]]:
        """
        :return: The screen of each game in colour, (height, width, 3) uint8
        :raises ValueError: If a game has no shadow
        :raises RuntimeError: Before the first reset
        """
        return [self._shadow(env).picture for env in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """
        :param attr_name: The name of a public attribute of this object, which all games share
        :param indices: The indices of the games, None for all
        :return: The value of the attribute for each of the games
        :raises AttributeError: If the attribute does not exist
        """
        if attr_name.startswith("_") or not hasattr(self, attr_name):
            raise AttributeError(f"AtariVecEnv has no attribute {attr_name!r}. There are no Python environments inside it.")
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """:raises AttributeError: Always, since only the constructor sets the attributes of games"""
        raise AttributeError(f"{attr_name!r} of an AtariVecEnv cannot be set: make a new one with the argument you want.")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """
        :param method_name: The name of the method: ``"get_ram"`` for the console's memory, (128,) uint8, or ``"render"`` for
            the screen in colour, (height, width, 3) uint8, both of games with a shadow; or ``"get_action_meanings"`` for the
            names of the actions
        :param args: No further arguments
        :param indices: The indices of the games, None for all
        :param kwargs: No further arguments
        :return: The result of the method for each of the games
        :raises AttributeError: If the method does not exist
        :raises ValueError: If a game has no shadow
        :raises RuntimeError: Before the first reset
        """
        methods: dict[str, Callable[[int], Any]] = {
            "get_action_meanings": lambda env: list(self._action_meanings),
            "get_ram": lambda env: self._shadow(env).ram,
            "render": lambda env: self._shadow(env).picture,
        }
        if method_name not in methods:
            raise AttributeError(f"The games of an AtariVecEnv have no method {method_name!r}, only {', '.join(methods)}.")
        return [methods[method_name](env, *args, **kwargs) for env in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """
        :param wrapper_class: The class of a wrapper
        :param indices: The indices of the games, None for all
        :return: True for SB3's Monitor, whose records this environment keeps itself, else False
        """
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    # --- Inside ---

    def _require_open(self) -> AtariVectorEnv:
        if self._native is None:
            raise RuntimeError("This AtariVecEnv is closed: make a new one.")
        return self._native

    def _shadow(self, env: int) -> AtariShadow:
        self._require_open()
        if self._lives is None:
            raise RuntimeError("There is no game yet: call reset() first.")
        return self._shadows.of(env)
