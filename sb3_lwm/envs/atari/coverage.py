"""
The places that the player of an Atari game has visited, read from the console's memory: cells of 8 x 8 pixels in each room.

Sources of the bytes: AtariARI (Anand et al. 2019, arXiv:1906.08226), and for Pitfall's scenes and Montezuma's keys Go-Explore
(Ecoffet et al. 2021, arXiv:2004.12919). The tests move each player and compare the bytes with the screen.
"""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# The side of a cell, in pixels of the console's screen of 160 x 210
CELL_SIZE = 8
# Room, column and row
Cell = tuple[int, int, int]
FILE_NAME = "discoveries.csv"
FIELDS = ("steps", "env", "what", "room", "x", "y")


class Position(NamedTuple):
    """The bytes of the console's memory that hold the player's position; None if a game does not have the byte."""

    room: int | None
    x: int | None
    y: int
    lines: int = 1
    """The number of lines of the screen for one unit of ``y``; a unit of ``x`` is always one pixel"""

    def cell(self, ram: npt.NDArray[np.uint8]) -> Cell:
        """
        :param ram: The console's memory in :class:`~sb3_lwm.AtariVecEnv` or any environment of ale-py, (128,) uint8
        :return: The room, and the column and row of the cell in it, in the direction in which the bytes grow
        """
        room, x = (0 if byte is None else int(ram[byte]) for byte in (self.room, self.x))
        return room, x // CELL_SIZE, int(ram[self.y]) * self.lines // CELL_SIZE


# By the name of the ROM. Pitfall's byte 1 is a register of random bits, whose value determines one of the 255 scenes.
POSITIONS = {
    "freeway": Position(None, None, 14),
    "frostbite": Position(None, 102, 100),
    "montezuma_revenge": Position(3, 42, 43),
    "pitfall": Position(1, 97, 105),
    "private_eye": Position(92, 63, 86),
    "venture": Position(90, 85, 26, lines=2),
}
# The byte of the carried objects, and the mask of its bits that are keys
KEYS = {"montezuma_revenge": (65, 0b1110)}


class _Game:
    """The counts since the start of a game."""

    def __init__(self, cells: Iterable[Cell] = (), n_keys: int = 0, keys: int = 0, doors: int = 0) -> None:
        self.cells = set(cells)
        # the keys carried at present, the keys taken, and the doors opened with one
        self.n_keys, self.keys, self.doors = n_keys, keys, doors


class Coverage:
    """
    Counts, in each of several parallel games and over the whole training, the visited ``rooms`` and ``cells``, and in
    Montezuma's Revenge the ``keys`` that were taken and the ``doors`` that were opened with one. Nothing is counted in games
    outside :data:`POSITIONS`, and no ``rooms`` in games without a byte for the room.

    Each cell at its first visit of the training, and each key and door, is a row of a file: the number of steps so far of
    all games together, the number of the game, ``cell``, ``key`` or ``door``, and the cell.

    :param rom: The name of the ROM
    :param folder: The folder of the file ``discoveries.csv``, None for no file
    :param override_existing: Whether a file of an earlier run is overwritten; if False it is continued
    """

    def __init__(self, rom: str, folder: str | Path | None = None, override_existing: bool = True) -> None:
        self._position = POSITIONS.get(rom)
        self._keys = KEYS.get(rom)
        self._games: dict[int, _Game] = {}
        self._found: list[tuple[int, str, Cell]] = []
        self.cells: set[Cell] = set()
        """The cells that were visited in the whole training"""
        self.counts = {"key": 0, "door": 0}
        self.steps = 0
        self.columns: tuple[str, ...] = ()
        """The names of the counts"""
        if self._position is not None:
            rooms = () if self._position.room is None else ("rooms",)
            self.columns = (*rooms, "cells", *(() if self._keys is None else ("keys", "doors")))
        self._path = None if folder is None or self._position is None else Path(folder, FILE_NAME)
        self._n_rows = 0
        if self._path is not None and (override_existing or not self._path.exists()):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(",".join(FIELDS) + "\n", encoding="utf-8")

    def begin(self, env: int, ram: npt.NDArray[np.uint8]) -> None:
        """
        Start the counts of a new game.

        :param env: The number of the game
        :param ram: The console's memory at the start, (128,) uint8
        """
        self._games[env] = _Game(n_keys=self._carried_keys(ram))
        self.visit(env, ram)

    def visit(self, env: int, ram: npt.NDArray[np.uint8]) -> None:
        """
        Update the counts of a game after a step.

        :param env: The number of the game
        :param ram: The console's memory, (128,) uint8
        """
        if self._position is None:
            return
        game, cell = self._games[env], self._position.cell(ram)
        if cell not in self.cells:
            self.cells.add(cell)
            self._found.append((env, "cell", cell))
        game.cells.add(cell)
        if (change := self._carried_keys(ram) - game.n_keys) != 0:
            game.n_keys += change
            game.keys += max(change, 0)
            game.doors += max(-change, 0)
            what = "key" if change > 0 else "door"
            self.counts[what] += abs(change)
            self._found += [(env, what, cell)] * abs(change)

    def _carried_keys(self, ram: npt.NDArray[np.uint8]) -> int:
        return 0 if self._keys is None else (int(ram[self._keys[0]]) & self._keys[1]).bit_count()

    def of_game(self, env: int) -> dict[str, int]:
        """
        :param env: The number of a game
        :return: The counts since its start, by the names of :attr:`columns`
        """
        game = self._games[env]
        return self._select(game.cells, game.keys, game.doors)

    def of_training(self) -> dict[str, int]:
        """:return: The counts of the whole training, by the names of :attr:`columns`"""
        return self._select(self.cells, self.counts["key"], self.counts["door"])

    def _select(self, cells: set[Cell], keys: int, doors: int) -> dict[str, int]:
        counts = {"rooms": len({room for room, _, _ in cells}), "cells": len(cells), "keys": keys, "doors": doors}
        return {name: counts[name] for name in self.columns}

    def end_step(self, n_steps: int) -> None:
        """
        Write the discoveries of the last step to the file.

        :param n_steps: The number of steps that all games have taken in it together
        """
        self.steps += n_steps
        if self._path is not None and self._found:
            with open(self._path, "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([self.steps, env, what, *cell] for env, what, cell in self._found)
        self._n_rows += len(self._found)
        self._found.clear()

    # --- Training state ---

    def get_state(self) -> dict[str, Any]:
        """:return: The state for :meth:`set_state`"""
        games = {env: [_as_array(game.cells), game.n_keys, game.keys, game.doors] for env, game in self._games.items()}
        whole = {"cells": _as_array(self.cells), "counts": dict(self.counts), "steps": self.steps, "rows": self._n_rows}
        return {"games": games, **whole, "found": [[env, what, list(cell)] for env, what, cell in self._found]}

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: The result of :meth:`get_state`; rows that were written after it are removed from the file
        """
        self._games = {env: _Game(_as_cells(cells), *others) for env, (cells, *others) in state["games"].items()}
        self.cells, self.counts = set(_as_cells(state["cells"])), dict(state["counts"])
        self.steps, self._n_rows = state["steps"], state["rows"]
        self._found = [(env, what, tuple(cell)) for env, what, cell in state["found"]]
        if self._path is not None:
            kept = self._path.read_bytes().splitlines(keepends=True)[: 1 + self._n_rows]
            os.truncate(self._path, sum(map(len, kept)))


def _as_array(cells: set[Cell]) -> npt.NDArray[np.int64]:
    """Return the cells as an array (N, 3) int64."""
    return np.array(sorted(cells), dtype=np.int64).reshape(-1, 3)


def _as_cells(array: npt.NDArray[np.int64]) -> list[Cell]:
    return [(room, x, y) for room, x, y in array.tolist()]
