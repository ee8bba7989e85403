"""Which game a name means, and how ale-py is made to play it."""

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import ale_py.roms
import gymnasium as gym
import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

SIDE = 84
# Seeds and frame counts of ale-py are 32-bit integers.
INT32_SIZE = 2**31
MINIMA = {"n_envs": 1, "max_episode_steps": 1, "frame_skip": 1, "noop_max": 0, "num_threads": 0, "ram_envs": 0}
RENDER_MODES = (None, "rgb_array", "human")

# What Gymnasium's Atari environment can do and the vectorised one cannot, and the values that are as good as absent.
_UNSUPPORTED = {"mode": None, "difficulty": None, "obs_type": "rgb", "continuous": False, "sound_obs": False}


class AtariGame(NamedTuple):
    """A game, and the settings that an environment's id stands for."""

    rom: str
    rom_path: Path
    repeat_action_probability: float
    full_action_space: bool
    spec: EnvSpec | None
    """None if the game was given by the name of its ROM"""


def find_game(
    game: str | EnvSpec, repeat_action_probability: float | None = None, full_action_space: bool | None = None
) -> AtariGame:
    """
    Look a game up.

    :param game: id of a Gymnasium environment (``"ALE/Pong-v5"``, ``"PongNoFrameskip-v4"``), its specification, or the
        name of a ROM (``"pong"``)
    :param repeat_action_probability: of sticky actions; None for what the id says
    :param full_action_space: all 18 actions; None for what the id says
    :return: the game
    :raises ValueError: If there is no such game, the emulator does not know its ROM, or the id stands for settings that the
        vectorised environment does not have
    """
    if isinstance(game, str) and game in ale_py.roms.get_all_rom_ids():
        found = AtariGame(game, _rom_path(game), 0.0, False, None)
    else:
        found = _from_spec(gym.registry.get(game) if isinstance(game, str) else game, str(game))
    if ale_py.ALEInterface.isSupportedROM(found.rom_path) is None:
        raise ValueError(
            f"The emulator of ale-py does not know the ROM of {found.rom!r}, although that ships with it, and would end the "
            "program: choose another game."
        )
    if repeat_action_probability is not None:
        found = found._replace(repeat_action_probability=repeat_action_probability)
    if not 0.0 <= found.repeat_action_probability < 1.0:
        raise ValueError(
            f"repeat_action_probability must be at least 0 and less than 1, got {found.repeat_action_probability!r}: "
            "0.25 is usual for sticky actions, 0 is none."
        )
    return found if full_action_space is None else found._replace(full_action_space=full_action_space)


def start_games(
    game: AtariGame, n_envs: int, num_threads: int, max_frames: int, frame_skip: int, noop_max: int, life_loss_info: bool
) -> AtariVectorEnv:
    """
    Start the emulators of ale-py, in the only modes in which they keep what SB3 needs.

    :param game: the game
    :param n_envs: how many of it
    :param num_threads: 0 for one a game, up to the number of cores
    :param max_frames: frames of the steps after which a game is cut short
    :param frame_skip: frames of a step
    :param noop_max: a game begins with fewer frames of no-ops
    :param life_loss_info: a lost life is reported as a termination
    :return: ale-py's vectorised environment
    """
    return AtariVectorEnv(
        game.rom,
        n_envs,
        num_threads=num_threads,
        max_num_frames_per_episode=max_frames,
        repeat_action_probability=game.repeat_action_probability,
        full_action_space=game.full_action_space,
        # any other mode hides the last observation of a game
        autoreset_mode=AutoresetMode.SAME_STEP,
        img_height=SIDE,
        img_width=SIDE,
        stack_num=1,
        frameskip=frame_skip,
        noop_max=noop_max,
        # episodic_life would start the whole game anew
        life_loss_info=life_loss_info,
        reward_clipping=False,
        # FIRE is pressed by AtariVecEnv, in each life
        use_fire_reset=False,
    )


def check_settings(settings: dict[str, Any]) -> None:
    """
    :param settings: arguments of ``AtariVecEnv`` by name
    :raises ValueError: if one is not in its range
    """
    for name, minimum in MINIMA.items():
        value = settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}.")
    # ale-py adds one to it
    longest = (INT32_SIZE - 2) // settings["frame_skip"]
    if settings["max_episode_steps"] > longest:
        raise ValueError(f"max_episode_steps must be at most {longest}, got {settings['max_episode_steps']}.")
    if settings["ram_envs"] > settings["n_envs"]:
        raise ValueError(f"ram_envs must be at most n_envs, {settings['n_envs']}, got {settings['ram_envs']}.")
    if settings["render_mode"] not in RENDER_MODES:
        raise ValueError(f"render_mode must be one of {RENDER_MODES}, got {settings['render_mode']!r}.")


def check_actions(actions: npt.NDArray[Any], n_envs: int, meanings: list[str]) -> npt.NDArray[np.int64]:
    """
    ale-py would wait for ever for a game with an unknown action.

    :param actions: what was given
    :param n_envs: number of games
    :param meanings: names of the actions
    :return: a copy, (n_envs,) int64
    :raises ValueError: if they have another shape or type, or one is out of range
    """
    array = np.asarray(actions)
    if array.shape != (n_envs,) or array.dtype.kind not in "iu":
        raise ValueError(f"actions must be integers, shape ({n_envs},), got {array.dtype}, shape {array.shape}.")
    wrong = np.flatnonzero((array < 0) | (array >= len(meanings)))
    if len(wrong):
        raise ValueError(
            f"Action {array[wrong[0]]} of game {wrong[0]} is out of range: it must be from 0 to "
            f"{len(meanings) - 1}, {', '.join(meanings)}."
        )
    return array.astype(np.int64)


def _from_spec(spec: EnvSpec | None, name: str) -> AtariGame:
    """Return the game."""
    if spec is None or spec.kwargs.get("game") not in ale_py.roms.get_all_rom_ids():
        raise ValueError(f"There is no Atari game {name!r}. {_suggest(name)}")
    kwargs = spec.kwargs
    if isinstance(kwargs.get("frameskip"), tuple):
        raise ValueError(
            f"{spec.id} skips a random number of frames, {kwargs['frameskip']}, which the vectorised environment cannot: "
            f"choose NoFrameskip-v4 (no sticky actions) or ALE/...-v5 (sticky actions) instead."
        )
    for argument, allowed in _UNSUPPORTED.items():
        if kwargs.get(argument, allowed) != allowed:
            raise ValueError(
                f"{argument}={kwargs[argument]!r} is not supported by the vectorised Atari environment: leave it out, or use "
                "gymnasium.make and SB3's AtariWrapper."
            )
    rom, sticky = kwargs["game"], kwargs.get("repeat_action_probability", 0.25)
    return AtariGame(rom, _rom_path(rom), sticky, kwargs.get("full_action_space", False), spec)


def _rom_path(rom: str) -> Path:
    path = ale_py.roms.get_rom_path(rom)
    assert path is not None, rom  # the name was looked up before
    return path


def _suggest(game: str) -> str:
    """Return how names are written, and the nearest ones."""
    names = [spec.id for spec in gym.registry.values() if "ale_py" in str(spec.entry_point)]
    names += ale_py.roms.get_all_rom_ids()
    near = " or ".join(map(repr, difflib.get_close_matches(game, names, n=3, cutoff=0.5)))
    usual = "Names are written 'ALE/MontezumaRevenge-v5', 'MontezumaRevengeNoFrameskip-v4' or 'montezuma_revenge'."
    return f"Did you mean {near}? {usual}" if near else usual
