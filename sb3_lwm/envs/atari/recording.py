"""
Recordings of an Atari game: the seed and the actions, from which a replay computes the frames.

A recording is a JSON file of a few kilobytes::

    {
      "format": "sb3-lwm Atari recording", "version": 1,
      "game": "montezuma_revenge",        the name of the ROM
      "seed": 0,                          the seed of the first reset
      "actions": [0, 0, 3, ...],          one for each step of four frames, numbers in the game's own set of actions
      "action_meanings": ["NOOP", ...],   the names of this set
      "ram_sha256": "...",                the checksum of the console's memory at every observation, for the replay
      "made_with": {"ale_py": "0.12.1", ...}
    }

The environment is made by :func:`~sb3_lwm.envs.atari.play.make_atari`: no sticky actions, up to 30 no-ops at the beginning,
and a lost life ends an episode.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from sb3_lwm.common.files import whole_file
from sb3_lwm.common.type_aliases import Play
from sb3_lwm.envs.atari.games import find_game
from sb3_lwm.envs.atari.play import make_atari, play_game

FORMAT = {"format": "sb3-lwm Atari recording", "version": 1}
PACKAGES = ("ale_py", "gymnasium", "stable_baselines3")


class Recording(NamedTuple):
    """The content of a recording's file; see the module."""

    game: str
    seed: int
    actions: tuple[int, ...]
    action_meanings: tuple[str, ...]
    ram_sha256: str
    made_with: dict[str, str]


def record(game: str, seed: int, actions: Sequence[int]) -> Recording:
    """
    :param game: The id of an environment, or the name of a ROM, see :func:`~sb3_lwm.envs.atari.games.find_game`
    :param seed: The seed of the first reset
    :param actions: The action of each step, at least one
    :return: The recording of a game with these actions
    :raises ValueError: If there is no action, or one that the game does not have
    """
    rom, meanings = find_game(game).rom, _action_meanings(game)
    taken = tuple(int(action) for action in actions)
    _check_actions(taken, meanings, "these actions")
    play = _play(rom, seed, taken)
    return Recording(rom, seed, taken, meanings, _checksum(play), {name: version(name) for name in PACKAGES})


def replay(recording: Recording) -> Play:
    """
    :param recording: The recording of a game
    :return: The played episodes: one observation more than actions, and one more for each episode that has ended
    :raises ValueError: If the replay differs from the recorded game
    """
    play = _play(recording.game, recording.seed, recording.actions)
    if _checksum(play) != recording.ram_sha256:
        present = {name: version(name) for name in PACKAGES}
        raise ValueError(
            f"The replay of {recording.game} differs from the recorded game in the console's memory. It was made with "
            f"{recording.made_with}, the present versions are {present}: install those versions, or record the game again."
        )
    return play


def save(recording: Recording, path: Path) -> None:
    """
    :param recording: The recording of a game
    :param path: The path of the file, which is written completely or not at all; its folder is created
    """
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps({**FORMAT, **recording._asdict()}) + "\n", encoding="utf-8")


def load(path: Path, game: str | None = None) -> Recording:
    """
    :param path: The path of a file that :func:`save` has written
    :param game: The required game, see :func:`~sb3_lwm.envs.atari.games.find_game`; None for any
    :return: The recording, which has not been replayed yet
    :raises FileNotFoundError: If the file does not exist
    :raises ValueError: If it is not a recording, or of another game, or has actions that the game does not have
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        recording = _from_content(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a recording of an Atari game ({error!r}): make one with `python -m sb3_lwm.zoo play`."
        ) from error
    if game is not None and recording.game != find_game(game).rom:
        raise ValueError(
            f"{path} is a recording of {recording.game}, not of {find_game(game).rom}: choose another file, or the other game."
        )
    _check_actions(recording.actions, _action_meanings(recording.game), str(path))
    return recording


def _from_content(content: Any) -> Recording:
    """Return the recording of a file's content."""
    found = {name: content[name] for name in FORMAT}
    if found != FORMAT:
        raise ValueError(f"its format is {found}, not {FORMAT}")
    actions, seed = content["actions"], content["seed"]
    if not isinstance(seed, int) or not all(type(action) is int for action in actions):
        raise TypeError("seed and actions must be integers")
    meanings, made_with = tuple(map(str, content["action_meanings"])), dict(content["made_with"])
    return Recording(str(content["game"]), seed, tuple(actions), meanings, str(content["ram_sha256"]), made_with)


def _check_actions(actions: tuple[int, ...], meanings: tuple[str, ...], where: str) -> None:
    """Raise an error without any action, or if one is out of range."""
    if not actions:
        raise ValueError(f"There is not a single action in {where}: play at least one step.")
    wrong = [action for action in actions if not 0 <= action < len(meanings)]
    if wrong:
        names = ", ".join(meanings)
        raise ValueError(f"Action {wrong[0]} in {where} is out of range: it must be from 0 to {len(meanings) - 1}, {names}.")


def _action_meanings(game: str) -> tuple[str, ...]:
    return tuple(make_atari(game).unwrapped.get_action_meanings())  # type: ignore[attr-defined]


def _play(rom: str, seed: int, actions: tuple[int, ...]) -> Play:
    left = iter(tqdm(actions, desc=f"Playing {rom}", unit="step", mininterval=1.0, disable=None))
    return play_game(make_atari(rom), seed, lambda observation, is_start: next(left, None))


def _checksum(play: Play) -> str:
    return hashlib.sha256(np.ascontiguousarray(play.rams).tobytes()).hexdigest()
