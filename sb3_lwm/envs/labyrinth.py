"""The partially observable labyrinth (POL) of Ermolov and Sebe, arXiv:2010.02302."""

import copy
import operator
from typing import Any, SupportsIndex

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

# The order of the actions, and of the flags of an observation.
LEFT, DOWN, RIGHT, UP = range(4)

# The open passages of a cell are an integer, with bit `action` set for each open one. These are the sixteen possible
# observations; step() copies one of them, which is far faster than making an array.
OBSERVATIONS = [np.array([mask >> action & 1 for action in range(4)], dtype=np.int8) for mask in range(16)]

# The attributes that change during an episode
STATE = ("_open_passages", "_visited", "_visited_cells", "_start", "_cell")

# Lengths in the picture, in pixels. Its sides are multiples of 16, as video encoders require.
CELL, MARGIN, WALL = 64, 8, 6
PAPER, UNVISITED, VISITED, INK, AGENT, START = (
    np.array(colour, dtype=np.uint8)
    for colour in ((255, 255, 255), (205, 212, 224), (255, 238, 200), (38, 50, 72), (224, 82, 45), (176, 146, 84))
)
_OFFSETS = np.arange(CELL) - (CELL - 1) / 2
_DISTANCES = np.hypot(_OFFSETS[:, None], _OFFSETS[None, :])
# The share of each pixel of a cell that a marker covers, shape (CELL, CELL), in [0, 1]; partial cover smooths the edge.
DISK = np.clip(0.28 * CELL + 0.5 - _DISTANCES, 0.0, 1.0)
RING = np.clip(2.0 - np.abs(_DISTANCES - 0.38 * CELL), 0.0, 1.0)


class PartiallyObservableLabyrinthEnv(gym.Env[npt.NDArray[np.int8], SupportsIndex]):
    """
    An unknown labyrinth, whose cells must all be visited, with only the walls of the current cell in the observation.

    - Labyrinth: ``size x size`` cells joined by a spanning tree, which every reset draws by randomised depth-first search
      from cell (0, 0).
    - Actions: ``Discrete(4)``: 0 left, 1 down, 2 right, 3 up. A move into a wall does not change the position.
    - Observation: ``MultiBinary(4)``, int8: which of the four passages of the current cell are open, in the order of
      the actions; neither the position nor the map.
    - Start: a uniformly random cell, which counts as visited.
    - Reward: -1 for each step, so that the return is minus the number of steps.
    - End: terminated once every cell has been visited. The limit of 1000 steps is Gymnasium's ``TimeLimit``, which
      the registered ids apply (``gymnasium.make("POL-3x3-v0")``); the class itself never truncates.
    - Info: ``visited_cells``, the number of cells visited so far.

    :param size: The number of cells along a side, at least 2
    :param render_mode: The render mode: ``"ansi"`` (``render()`` returns text), ``"human"`` (the same text is printed at
        every reset and step), ``"rgb_array"`` (``render()`` returns a picture) or ``None``
    :raises ValueError: If ``size`` is not an integer of at least 2, or the render mode is unknown
    """

    # Gymnasium declares it without ClassVar, so mypy rejects the ClassVar that ruff proposes.
    metadata: dict[str, Any] = {"render_modes": ["ansi", "human", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, size: int = 3, render_mode: str | None = None) -> None:
        if not isinstance(size, int) or size < 2:
            raise ValueError(f"size must be an integer of at least 2, got {size!r}")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.size = size
        self.render_mode = render_mode
        self.observation_space = spaces.MultiBinary(4)
        self.action_space = spaces.Discrete(4)
        # Cells are numbered row by row; each action adds one of these to the number.
        self._moves = (-1, size, 1, -size)
        self._neighbours = [self._find_neighbours(cell) for cell in range(size * size)]
        # Empty until the first reset.
        self._open_passages: list[int] = []
        self._visited: list[bool] = []
        self._visited_cells = 0
        self._start = 0
        self._cell = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.int8], dict[str, Any]]:
        """
        Draw a new labyrinth and a start cell.

        :param seed: The seed of the generator of labyrinths and starts; ``None`` continues the present generator
        :param options: Not used
        :return: The observation of the start cell, shape (4,), int8, and the info
        """
        super().reset(seed=seed)
        cells = self.size * self.size
        self._open_passages = self._carve()
        self._start = self._cell = int(self.np_random.integers(cells))
        self._visited = [False] * cells
        self._visited[self._cell] = True
        self._visited_cells = 1
        if self.render_mode == "human":
            print(self._draw_text())
        return OBSERVATIONS[self._open_passages[self._cell]].copy(), {"visited_cells": 1}

    def step(self, action: SupportsIndex) -> tuple[npt.NDArray[np.int8], float, bool, bool, dict[str, Any]]:
        """
        Move one cell, or stay if there is a wall in this direction.

        :param action: The action (0 left, 1 down, 2 right, 3 up), a Python or NumPy integer, or an integer array of shape ()
        :return: The observation, shape (4,), int8; reward, always -1.0; terminated; truncated, always False; info
        :raises ValueError: If the action is not an integer from 0 to 3
        :raises gymnasium.error.ResetNeeded: Before the first reset
        """
        self._require_reset()
        try:
            move = operator.index(action)
        except TypeError:
            move = -1
        if not 0 <= move <= 3:
            raise ValueError(f"action must be an integer: 0 (left), 1 (down), 2 (right) or 3 (up), got {action!r}")
        cell = self._cell
        if self._open_passages[cell] >> move & 1:
            cell = self._cell = cell + self._moves[move]
            if not self._visited[cell]:
                self._visited[cell] = True
                self._visited_cells += 1
        if self.render_mode == "human":
            print(self._draw_text())
        terminated = self._visited_cells == len(self._visited)
        info = {"visited_cells": self._visited_cells}
        return OBSERVATIONS[self._open_passages[cell]].copy(), -1.0, terminated, False, info

    def get_training_state(self) -> dict[str, Any]:
        """:return: The labyrinth, the visited cells and the position, without the generator ``np_random``"""
        return {name: copy.copy(getattr(self, name)) for name in STATE}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """:param state: The result of :meth:`get_training_state` of a labyrinth of the same size"""
        vars(self).update(copy.deepcopy(state))

    def render(self) -> str | npt.NDArray[np.uint8] | None:
        """
        :return: The text for ``"ansi"``; the picture, shape (height, width, 3), uint8, for ``"rgb_array"``; ``None`` for
            ``"human"``, since reset and step have already printed the text
        :raises gymnasium.error.ResetNeeded: Before the first reset
        """
        if self.render_mode is None:
            gym.logger.warn(f"render() needs a render_mode, one of {self.metadata['render_modes']}, given to the constructor.")
            return None
        self._require_reset()
        if self.render_mode == "ansi":
            return self._draw_text()
        return self._draw_picture() if self.render_mode == "rgb_array" else None

    @property
    def passages(self) -> npt.NDArray[np.bool_]:
        """:return: A copy of the map, (size, size, 4) bool: whether ``passages[row, column, action]`` is open"""
        self._require_reset()
        return np.array([OBSERVATIONS[mask] for mask in self._open_passages], dtype=bool).reshape(self.size, self.size, 4)

    @property
    def visited(self) -> npt.NDArray[np.bool_]:
        """:return: Whether each cell has been visited in this episode, a copy, (size, size) bool"""
        self._require_reset()
        return np.array(self._visited).reshape(self.size, self.size)

    @property
    def position(self) -> tuple[int, int]:
        """:return: The agent's row (from the top) and column (from the left)"""
        self._require_reset()
        return divmod(self._cell, self.size)

    def _require_reset(self) -> None:
        """Raise an error before the first reset."""
        if not self._open_passages:
            raise gym.error.ResetNeeded("There is no labyrinth yet: call reset() first.")

    def _find_neighbours(self, cell: int) -> list[tuple[int, int]]:
        """Return each action that does not leave the grid, with the next cell in this direction."""
        row, column = divmod(cell, self.size)
        inside = (column > 0, row < self.size - 1, column < self.size - 1, row > 0)
        return [(action, cell + self._moves[action]) for action in range(4) if inside[action]]

    def _carve(self) -> list[int]:
        """Draw a perfect labyrinth by depth-first search, and return each cell's open passages, bit ``action`` for each."""
        open_passages = [0] * (self.size * self.size)
        stack = [0]
        # A spanning tree has one passage fewer than cells, each of which needs one number; one call draws all of them.
        for uniform in self.np_random.random(len(open_passages) - 1).tolist():
            # A cell without a passage has not been reached. (The first cell has none at the start, but is then the top.)
            while not (choices := [choice for choice in self._neighbours[stack[-1]] if not open_passages[choice[1]]]):
                stack.pop()
            action, neighbour = choices[int(uniform * len(choices))]
            open_passages[stack[-1]] |= 1 << action
            open_passages[neighbour] |= 1 << (action + 2) % 4
            stack.append(neighbour)
        return open_passages

    def _draw_text(self) -> str:
        """Return the labyrinth in 2 * size + 1 lines (``@`` agent, ``.`` visited cell), and the number of visited cells."""
        lines = ["+" + "---+" * self.size]
        for row in range(self.size):
            cells = range(row * self.size, (row + 1) * self.size)
            marks = ["@" if cell == self._cell else "." if self._visited[cell] else " " for cell in cells]
            rights = [" " if self._open_passages[cell] >> RIGHT & 1 else "|" for cell in cells]
            bottoms = ["   +" if self._open_passages[cell] >> DOWN & 1 else "---+" for cell in cells]
            lines.append("|" + "".join(f" {mark} {right}" for mark, right in zip(marks, rights, strict=True)))
            lines.append("+" + "".join(bottoms))
        return "\n".join([*lines, f"visited {self._visited_cells} of {len(self._visited)} cells"])

    def _draw_picture(self) -> npt.NDArray[np.uint8]:
        """Return a picture with light visited cells, a ring at the start and a disk for the agent, (side, side, 3) uint8."""
        side = self.size * CELL + 2 * MARGIN
        picture = np.empty((side, side, 3), dtype=np.uint8)
        picture[:] = PAPER
        for cell, visited in enumerate(self._visited):
            # A margin stays white, so that neighbouring cells can be told apart without a wall.
            self._patch(picture, cell)[1:-1, 1:-1] = VISITED if visited else UNVISITED
        for cell, colour, cover in ((self._start, START, RING), (self._cell, AGENT, DISK)):
            patch = self._patch(picture, cell)
            patch[:] = np.rint(patch + cover[:, :, None] * (colour - patch.astype(np.float64)))
        # Walls are drawn last, since they overlap two cells.
        for cell, mask in enumerate(self._open_passages):
            top, left = (MARGIN + index * CELL for index in divmod(cell, self.size))
            for action, (below, beside) in enumerate(((0, 0), (CELL, 0), (0, CELL), (0, 0))):
                if not mask >> action & 1:
                    height, width = (CELL, 0) if action in (LEFT, RIGHT) else (0, CELL)
                    y, x = top + below - WALL // 2, left + beside - WALL // 2
                    picture[y : y + height + WALL, x : x + width + WALL] = INK
        return picture

    def _patch(self, picture: npt.NDArray[np.uint8], cell: int) -> npt.NDArray[np.uint8]:
        """Return the view of the picture that shows the cell, shape (CELL, CELL, 3)."""
        top, left = (MARGIN + index * CELL for index in divmod(cell, self.size))
        return picture[top : top + CELL, left : left + CELL]
