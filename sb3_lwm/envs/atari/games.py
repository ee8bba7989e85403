"""Atari games by their names, and the settings with which ale-py plays them."""

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
# Seeds and frame counts of ale-py are 32-bit integers
INT32_SIZE = 2**31
MINIMA = {"n_envs": 1, "max_episode_steps": 1, "frame_skip": 1, "noop_max": 0, "num_threads": 0, "ram_envs": 0}
RENDER_MODES = (None, "rgb_array", "human")

# Arguments of Gymnasium's Atari environment that the vectorised one does not have, and their values without effect
_UNSUPPORTED = {"mode": None, "difficulty": None, "obs_type": "rgb", "continuous": False, "sound_obs": False}


class AtariGame(NamedTuple):
    """A game, and the settings that belong to an environment's id."""

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

    :param game: The id of a Gymnasium environment (``"ALE/Pong-v5"``, ``"PongNoFrameskip-v4"``), its specification, or the
        name of a ROM (``"pong"``)
    :param repeat_action_probability: The probability of sticky actions; None for that of the id
    :param full_action_space: Whether there are all 18 actions; None for the setting of the id
    :return: The game
    :raises ValueError: If the game does not exist, the emulator does not know its ROM, or the id has settings that the
        vectorised environment does not support
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
    Start the emulators of ale-py, in the only modes that return all the data that SB3 needs.

    :param game: The game
    :param n_envs: The number of parallel games
    :param num_threads: The number of threads; 0 for one per game, up to the number of cores
    :param max_frames: The number of frames, without no-ops, after which a game is truncated
    :param frame_skip: The number of frames of a step
    :param noop_max: The upper bound, exclusive, of the number of frames of no-ops at the start of a game
    :param life_loss_info: Whether a lost life is reported as a termination
    :return: The vectorised environment of ale-py
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
        # episodic_life would restart the whole game
        life_loss_info=life_loss_info,
        reward_clipping=False,
        # AtariVecEnv presses FIRE, in each life
        use_fire_reset=False,
    )


def check_settings(settings: dict[str, Any]) -> None:
    """
    :param settings: The arguments of ``AtariVecEnv`` by name
    :raises ValueError: If an argument is out of its range
    """
    for name, minimum in MINIMA.items():
        value = settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}.")
    # ale-py adds 1 to the number of frames
    longest = (INT32_SIZE - 2) // settings["frame_skip"]
    if settings["max_episode_steps"] > longest:
        raise ValueError(f"max_episode_steps must be at most {longest}, got {settings['max_episode_steps']}.")
    if settings["ram_envs"] > settings["n_envs"]:
        raise ValueError(f"ram_envs must be at most n_envs, {settings['n_envs']}, got {settings['ram_envs']}.")
    if settings["render_mode"] not in RENDER_MODES:
        raise ValueError(f"render_mode must be one of {RENDER_MODES}, got {settings['render_mode']!r}.")


def check_actions(actions: npt.NDArray[Any], n_envs: int, meanings: list[str]) -> npt.NDArray[np.int64]:
    """
    Check actions, since ale-py would wait for ever for a game with an unknown action.

    :param actions: The actions to check
    :param n_envs: The number of games
    :param meanings: The names of the actions of the game
    :return: A copy of the actions, (n_envs,) int64
    :raises ValueError: If they have another shape or dtype, or one is out of range
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
    """Return the game of a specification; ``name`` is for the error message."""
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
    """Return a sentence with the nearest names and the forms of names."""
    names = [spec.id for spec in gym.registry.values() if "ale_py" in str(spec.entry_point)]
    names += ale_py.roms.get_all_rom_ids()
    near = " or ".join(map(repr, difflib.get_close_matches(game, names, n=3, cutoff=0.5)))
    usual = "Names are written 'ALE/MontezumaRevenge-v5', 'MontezumaRevengeNoFrameskip-v4' or 'montezuma_revenge'."
    return f"Did you mean {near}? {usual}" if near else usual
