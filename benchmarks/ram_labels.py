"""
The bytes of the console's memory (128 bytes) that hold the state of the screen in six games, if random play varies them.

Source of the bytes: AtariARI, the annotations of Anand, Racah, Ozair, Bengio, Cote and Hjelm, "Unsupervised State
Representation Learning in Atari", NeurIPS 2019 (arXiv:1906.08226). Each byte was examined in 30 000 frames of uniformly
random play: those in :data:`LEFT_OUT` do not vary there, or do not match their names. Gravitar and Solaris have no
annotations.
"""

from enum import Enum
from typing import NamedTuple

import numpy as np


class Kind(Enum):
    """The kind of a byte's values, which determines the metric of a probe."""

    POSITION = "position"  # a quantity with many values: R2 of ridge regression
    CATEGORY = "category"  # values without an order: F1 of logistic regression
    COUNT = "count"  # a quantity with few values: both


class Label(NamedTuple):
    """A byte of the console's memory."""

    byte: int
    kind: Kind = Kind.POSITION
    decimal: bool = False  # whether it has two decimal digits in four bits each, as the console's clocks do

    def read(self, rams: np.ndarray) -> np.ndarray:
        """
        :param rams: The console's memories, (N, 128) uint8
        :return: The values of the label, (N,) int64
        """
        values = rams[:, self.byte].astype(np.int64)
        return 10 * (values >> 4) + (values & 15) if self.decimal else values


def numbered(name: str, bytes_: range) -> dict[str, Label]:
    """Return a position for each byte, by its name with a number from 0."""
    return {f"{name}_{index}": Label(byte) for index, byte in enumerate(bytes_)}


LABELS: dict[str, dict[str, Label]] = {
    "Freeway": {"player_y": Label(14), **numbered("car_x", range(108, 118))},
    "Frostbite": {
        "player_x": Label(102),
        "player_y": Label(100),
        # from the bottom to the top; a missing animal is at 0
        **numbered("ice_x", range(31, 35)),
        **numbered("animal_x", range(84, 88)),
        "igloo_blocks": Label(77, Kind.CATEGORY),  # 255 for no block, else the number of the last one
        "lives": Label(76, Kind.COUNT),
        "score_hundreds": Label(73, Kind.CATEGORY),
        "score_tens": Label(74, Kind.COUNT, decimal=True),
    },
    "MontezumaRevenge": {
        "player_x": Label(42),
        "player_y": Label(43),
        "player_direction": Label(52, Kind.CATEGORY),  # left, right, up and down a ladder or a rope, and more
        "skull_x": Label(47),
        "lives": Label(58, Kind.COUNT),
    },
    "Pitfall": {
        "player_x": Label(97),
        "player_y": Label(105),  # runs through all values while the next life falls in
        "log_x": Label(98),
        "scorpion_x": Label(99),
        "rope_y": Label(18, Kind.COUNT),  # swings also in scenes without a rope
        "clock_minutes": Label(88, Kind.COUNT, decimal=True),
        "clock_seconds": Label(89, decimal=True),
    },
    "PrivateEye": {
        "player_x": Label(63),
        "player_y": Label(86),
        "player_direction": Label(58, Kind.CATEGORY),
        "room": Label(92, Kind.CATEGORY),
        "dove_x": Label(48),
        "dove_y": Label(39),
        "clock_minutes": Label(67, Kind.COUNT, decimal=True),
        "clock_seconds": Label(69, decimal=True),
        "score_thousands": Label(73, Kind.CATEGORY),
    },
    "Venture": {
        "player_x": Label(85),
        "player_y": Label(26),
        # monsters and treasures; missing ones have the vertical position 255
        **numbered("sprite_y", range(20, 26)),
        **numbered("sprite_x", range(79, 85)),
        "room": Label(90, Kind.CATEGORY),
        "lives": Label(70, Kind.COUNT),
    },
}

CONSTANT = "constant in random play"
LEFT_OUT: dict[str, dict[int, str]] = {
    "Freeway": {103: f"score, {CONSTANT}"},
    "Frostbite": {
        104: f"bear_x, {CONSTANT}",
        72: f"score, {CONSTANT}",
        4: "player_direction: it is the joystick of the last action, which the frame does not show",
    },
    "MontezumaRevenge": {
        3: f"room_number, {CONSTANT}",
        46: f"enemy_skull_y, {CONSTANT}",
        44: f"key_monster_x, {CONSTANT}",
        45: f"key_monster_y, {CONSTANT}",
        57: f"level, {CONSTANT}",
        19: f"score, {CONSTANT}",
        20: f"score, {CONSTANT}",
        21: f"score, {CONSTANT}",
        62: "room_state: in the first room a counter of every second frame, modulo 16",
        61: "items_in_inventory_count: in the first room a bit of that counter, while nothing is carried",
    },
    "Pitfall": {},
    "PrivateEye": {74: f"score, {CONSTANT}"},
    "Venture": {71: f"score, {CONSTANT}", 72: f"score, {CONSTANT}"},
}
