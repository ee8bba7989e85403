"""Single emulators that follow the vectorised games, for what those do not show: RAM and colours."""

import ale_py
import numpy as np
import numpy.typing as npt

from sb3_lwm.envs.atari.coverage import Coverage
from sb3_lwm.envs.atari.games import AtariGame


class AtariShadow:
    """
    Plays the same game with the same actions from the same seed, one step after the vectorised environment.

    The emulator is deterministic, also with sticky actions: these are drawn from a generator of its own, which the seed
    sets and each frame advances. The number of no-ops at a reset, which the vectorised environment draws, is the
    game's first frame number.

    :param game: the game
    :param frame_skip: frames of a step
    :param max_frames: frames of the steps after which a game is cut short
    :param display: open a window and play the sound
    """

    def __init__(self, game: AtariGame, frame_skip: int, max_frames: int, display: bool = False) -> None:
        self._game = game
        self._frame_skip = frame_skip
        self._max_frames = max_frames
        self._ale = ale_py.ALEInterface()
        self._ale.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale.setFloat("repeat_action_probability", game.repeat_action_probability)
        self._ale.setBool("display_screen", display)
        self._ale.setBool("sound", display)
        self._ale.loadROM(game.rom_path)
        self._actions = self._ale.getLegalActionSet() if game.full_action_space else self._ale.getMinimalActionSet()
        self._elapsed_frames = 0

    @property
    def ram(self) -> npt.NDArray[np.uint8]:
        """The console's memory, a copy, shape (128,), uint8."""
        return self._ale.getRAM()

    @property
    def picture(self) -> npt.NDArray[np.uint8]:
        """The screen in colour, a copy, shape (210, 160, 3) for most games, uint8."""
        return self._ale.getScreenRGB()

    @property
    def grey_picture(self) -> npt.NDArray[np.uint8]:
        """The screen in grey, a copy, shape (210, 160) for most games, uint8."""
        return self._ale.getScreenGrayscale()

    def seed(self, seed: int) -> None:
        """
        Start the console anew; a reset must follow.

        :param seed: from 0 to 2^31 - 1
        """
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(self._game.rom_path)

    @property
    def state(self) -> tuple[int, int, int]:
        """Lives, frames since the seed was set, frames of this game."""
        return self._ale.lives(), self._ale.getFrameNumber(), self._ale.getEpisodeFrameNumber()

    def reset(self, no_ops: int) -> None:
        """
        Start a game.

        :param no_ops: frames that pass before the first step
        """
        self._ale.reset_game()
        for _ in range(no_ops):
            self._ale.act(ale_py.Action.NOOP)
        self._elapsed_frames = 0

    def step(self, action: int) -> tuple[int, bool]:
        """
        Play a step.

        :param action: index of the action
        :return: the reward, and whether the game has ended
        """
        reward, ended = 0, False
        for _ in range(self._frame_skip):
            reward += self._ale.act(self._actions[action])
            self._elapsed_frames += 1
            ended = self._ale.game_over() or self._elapsed_frames >= self._max_frames
            if ended:
                break
        return reward, ended


class AtariShadows:
    """
    The shadows of some games of a vectorised environment.

    :param game: the game
    :param envs: numbers of the games that have one
    :param frame_skip: frames of a step
    :param max_frames: frames of the steps after which a game is cut short
    :param display: open a window for each and play the sound
    :param coverage: counts what the players see
    """

    def __init__(
        self, game: AtariGame, envs: range, frame_skip: int, max_frames: int, display: bool, coverage: Coverage
    ) -> None:
        self._envs = envs
        self._coverage = coverage
        self._shadows = {env: AtariShadow(game, frame_skip, max_frames, display) for env in envs}

    def of(self, env: int) -> AtariShadow:
        """
        :param env: number of a game
        :return: its shadow
        :raises ValueError: if it has none
        """
        if env not in self._shadows:
            needed = self._envs.stop - env
            raise ValueError(f"Game {env} has no shadow: make the AtariVecEnv with ram_envs={needed} or a render_mode.")
        return self._shadows[env]

    def columns(self, env: int) -> tuple[str, ...]:
        """
        :param env: number of a game
        :return: what :meth:`follow` tells of it when it ends
        """
        return self._coverage.columns if env in self._shadows else ()

    def reset(self, seeds: npt.NDArray[np.int64], state: dict[str, npt.NDArray[np.int32]]) -> None:
        """
        Start games as the vectorised environment has done.

        :param seeds: (n_envs,) int64, negative for none
        :param state: ale-py's info, (n_envs,) int32 each
        :raises RuntimeError: if a shadow plays another game
        """
        for env in self._shadows:
            self.begin(env, int(seeds[env]), state)

    def begin(self, env: int, seed: int, state: dict[str, npt.NDArray[np.int32]]) -> None:
        """
        Start a game as the vectorised environment has done.

        :param env: number of the game; nothing happens if it has no shadow
        :param seed: negative for none
        :param state: ale-py's info, (n_envs,) int32 each
        :raises RuntimeError: if the shadow plays another game
        """
        if (shadow := self._shadows.get(env)) is None:
            return
        if seed >= 0:
            shadow.seed(seed)
        self._reset(env, state)
        self._compare(env, shadow.state, state)

    def _reset(self, env: int, state: dict[str, npt.NDArray[np.int32]]) -> None:
        shadow = self._shadows[env]
        shadow.reset(int(state["episode_frame_number"][env]))
        self._coverage.begin(env, shadow.ram)

    def follow(
        self,
        actions: npt.NDArray[np.int64],
        rewards: npt.NDArray[np.int32],
        ends: npt.NDArray[np.bool_],
        state: dict[str, npt.NDArray[np.int32]],
        plays: npt.NDArray[np.bool_] | None = None,
    ) -> dict[int, dict[str, int]]:
        """
        Play the step that the games have played, and start those anew that have ended.

        :param actions: (n_envs,) int64, as they were played
        :param rewards: (n_envs,) int32, not clipped
        :param ends: (n_envs,) bool, whether a game has ended
        :param state: ale-py's info, after new games have begun, (n_envs,) int32 each
        :param plays: (n_envs,) bool, the games that are to be followed, by default all
        :return: for each game that has ended, what its player has seen, see :class:`Coverage`
        :raises RuntimeError: if a shadow plays another game
        """
        seen: dict[int, dict[str, int]] = {}
        for env, shadow in self._shadows.items():
            if plays is not None and not plays[env]:
                continue
            played = shadow.step(int(actions[env]))
            if played != (rewards[env], ends[env]):
                raise self._lost(env, f"(reward, end) {played} instead of {(int(rewards[env]), bool(ends[env]))}")
            self._coverage.visit(env, shadow.ram)
            if ends[env]:
                seen[env] = self._coverage.of_game(env)
                self._reset(env, state)
            self._compare(env, shadow.state, state)
        return seen

    def _compare(self, env: int, shadow: tuple[int, ...], state: dict[str, npt.NDArray[np.int32]]) -> None:
        game = tuple(int(state[key][env]) for key in ("lives", "frame_number", "episode_frame_number"))
        if game != shadow:
            raise self._lost(env, f"(lives, frames, frames of the game) {shadow} instead of {game}")

    def _lost(self, env: int, difference: str) -> RuntimeError:
        return RuntimeError(f"The shadow of game {env} plays another game, {difference}: do without ram_envs and render_mode.")
