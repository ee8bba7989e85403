"""Single emulators that follow the vectorised games, and give access to their RAM and colours."""

import ale_py
import numpy as np
import numpy.typing as npt

from sb3_lwm.envs.atari.coverage import Coverage
from sb3_lwm.envs.atari.games import AtariGame


class AtariShadow:
    """
    Plays the same game with the same actions from the same seed, one step after the vectorised environment.

    The emulator is deterministic, also with sticky actions, which it draws from its own generator: the seed sets the
    generator, and each frame advances it. The number of no-ops at a reset, which the vectorised environment draws, is the
    game's first frame number.

    :param game: The game
    :param frame_skip: The number of frames of a step
    :param max_frames: The number of frames, without no-ops, after which a game is truncated
    :param display: Whether to open a window and play the sound
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
        """:return: A copy of the console's memory, (128,) uint8"""
        return self._ale.getRAM()

    @property
    def picture(self) -> npt.NDArray[np.uint8]:
        """:return: A copy of the screen in colour, uint8, (210, 160, 3) for most games"""
        return self._ale.getScreenRGB()

    @property
    def grey_picture(self) -> npt.NDArray[np.uint8]:
        """:return: A copy of the screen in grey, uint8, (210, 160) for most games"""
        return self._ale.getScreenGrayscale()

    def seed(self, seed: int) -> None:
        """
        Restart the console; a reset must follow.

        :param seed: The seed, from 0 to 2^31 - 1
        """
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(self._game.rom_path)

    @property
    def state(self) -> tuple[int, int, int]:
        """:return: The numbers of lives, of frames since the seed was set, and of frames of this game"""
        return self._ale.lives(), self._ale.getFrameNumber(), self._ale.getEpisodeFrameNumber()

    def reset(self, no_ops: int) -> None:
        """
        Start a game.

        :param no_ops: The number of frames without action before the first step
        """
        self._ale.reset_game()
        for _ in range(no_ops):
            self._ale.act(ale_py.Action.NOOP)
        self._elapsed_frames = 0

    def step(self, action: int) -> tuple[int, bool]:
        """
        Play a step.

        :param action: The index of the action
        :return: The reward, and whether the game has ended
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

    :param game: The game
    :param envs: The numbers of the games that have a shadow
    :param frame_skip: The number of frames of a step
    :param max_frames: The number of frames, without no-ops, after which a game is truncated
    :param display: Whether to open a window for each shadow and play the sound
    :param coverage: The counts of visited places, which the shadows update
    """

    def __init__(
        self, game: AtariGame, envs: range, frame_skip: int, max_frames: int, display: bool, coverage: Coverage
    ) -> None:
        self._envs = envs
        self._coverage = coverage
        self._shadows = {env: AtariShadow(game, frame_skip, max_frames, display) for env in envs}

    def of(self, env: int) -> AtariShadow:
        """
        :param env: The number of a game
        :return: The shadow of the game
        :raises ValueError: If the game has no shadow
        """
        if env not in self._shadows:
            needed = self._envs.stop - env
            raise ValueError(f"Game {env} has no shadow: make the AtariVecEnv with ram_envs={needed} or a render_mode.")
        return self._shadows[env]

    def columns(self, env: int) -> tuple[str, ...]:
        """
        :param env: The number of a game
        :return: The names of the counts that :meth:`follow` returns when the game ends
        """
        return self._coverage.columns if env in self._shadows else ()

    def reset(self, seeds: npt.NDArray[np.int64], state: dict[str, npt.NDArray[np.int32]]) -> None:
        """
        Start the games that the vectorised environment has started.

        :param seeds: The seeds of the games, (n_envs,) int64, negative for no new seed
        :param state: The info of ale-py, (n_envs,) int32 each
        :raises RuntimeError: If a shadow plays another game
        """
        for env in self._shadows:
            self.begin(env, int(seeds[env]), state)

    def begin(self, env: int, seed: int, state: dict[str, npt.NDArray[np.int32]]) -> None:
        """
        Start a game that the vectorised environment has started.

        :param env: The number of the game; nothing happens if it has no shadow
        :param seed: The seed of the game, negative for no new seed
        :param state: The info of ale-py, (n_envs,) int32 each
        :raises RuntimeError: If the shadow plays another game
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
        Play the step that the games have played, and restart games that have ended.

        :param actions: The played actions, (n_envs,) int64
        :param rewards: The unclipped rewards, (n_envs,) int32
        :param ends: Whether each game has ended, (n_envs,) bool
        :param state: The info of ale-py after new games have begun, (n_envs,) int32 each
        :param plays: Whether to follow each game, (n_envs,) bool, by default all
        :return: The counts of each game that has ended, see :class:`Coverage`
        :raises RuntimeError: If a shadow plays another game
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
        return RuntimeError(f"The shadow of game {env} plays another game, {difference}: omit ram_envs and render_mode.")
