"""Cells that the players of Atari games visit, by the console's memory."""

from pathlib import Path
from typing import Any

import ale_py
import numpy as np
import pandas as pd
import pytest
from ale_py import Action
from atari_helpers import FIRST_ROOM, make, random_actions
from stable_baselines3 import PPO
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_lwm import AtariVecEnv
from sb3_lwm.envs.atari.callback import CoverageCallback
from sb3_lwm.envs.atari.coverage import CELL_SIZE, POSITIONS, Coverage
from sb3_lwm.envs.atari.recording import load, replay

MONTEZUMA = "montezuma_revenge"


def start(rom: str) -> ale_py.ALEInterface:
    """:return: A game whose player can be moved"""
    game = ale_py.ALEInterface()
    game.setLoggerMode(ale_py.LoggerMode.Error)
    game.setInt("random_seed", 0)
    game.setFloat("repeat_action_probability", 0.0)
    game.loadROM(ale_py.roms.get_rom_path(rom))
    for _ in range(150):
        game.act(Action.NOOP)
    return game


def walk(game: ale_py.ALEInterface, actions: dict[str, int]) -> list[np.ndarray]:
    """:return: The memory after each frame"""
    rams = [game.getRAM()]
    for name, frames in actions.items():
        for _ in range(frames):
            game.act(getattr(Action, name))
            rams.append(game.getRAM())
    return rams


@pytest.mark.parametrize(
    ("rom", "action", "frames", "change"),
    [
        ("freeway", "UP", 24, (0, 24)),
        ("frostbite", "RIGHT", 48, (24, 0)),
        (MONTEZUMA, "RIGHT", 12, (12, 0)),
        ("pitfall", "RIGHT", 40, (20, 0)),
        ("private_eye", "RIGHT", 32, (30, 0)),
        ("venture", "RIGHT", 32, (8, 0)),
        ("venture", "UP", 32, (0, -8)),
    ],
)
def test_bytes_follow_the_player(rom: str, action: str, frames: int, change: tuple[int, int]) -> None:
    position, rams = POSITIONS[rom], walk(start(rom), {action: frames})
    moved = [0 if byte is None else int(rams[-1][byte]) - int(rams[0][byte]) for byte in (position.x, position.y)]
    assert moved == list(change)


# colours of which the screen has the player only
@pytest.mark.parametrize(
    ("rom", "frames", "colour"), [("frostbite", 48, 6), ("pitfall", 40, 74), ("private_eye", 32, 74), (MONTEZUMA, 12, 74)]
)
def test_a_unit_is_a_pixel(rom: str, frames: int, colour: int) -> None:
    game, byte = start(rom), POSITIONS[rom].x
    assert byte is not None
    columns = []
    for _ in range(2):
        columns.append((np.nonzero(game.getScreen().reshape(210, 160) == colour)[1].mean(), int(game.getRAM()[byte])))
        walk(game, {"RIGHT": frames})
    (pixel, value), (new_pixel, new_value) = columns
    # the arms and legs swing
    assert new_pixel - pixel == pytest.approx(new_value - value, abs=2.0)


def test_rooms_change_where_the_player_leaves_them() -> None:
    # to the left of Pitfall's first scene is the last one, and the player comes in at its right side
    position, rams = POSITIONS["pitfall"], walk(start("pitfall"), {"LEFT": 60})
    assert position.room is not None and position.x is not None
    rooms = [int(ram[position.room]) for ram in rams]
    (leaves,) = np.flatnonzero(np.diff(rooms))
    assert rams[leaves][position.x] < 16 and rams[leaves + 1][position.x] > 140


def test_scripted_walk_is_counted_exactly() -> None:
    recording = load(FIRST_ROOM)
    rams, position = replay(recording).rams, POSITIONS[MONTEZUMA]
    expected = {(int(ram[3]), int(ram[42]) // CELL_SIZE, int(ram[43]) // CELL_SIZE) for ram in rams}
    coverage = Coverage(MONTEZUMA)
    coverage.begin(0, rams[0])
    for ram in rams[1:]:
        coverage.visit(0, ram)
    # one room, from the door in the middle to the key at the left, and back to the door at the right, which is opened
    assert coverage.of_game(0) == coverage.of_training() == {"rooms": 1, "cells": 70, "keys": 1, "doors": 1}
    assert coverage.cells == expected == {position.cell(ram) for ram in rams}


def play(env: AtariVecEnv, actions: np.ndarray) -> dict[int, list[np.ndarray]]:
    """:return: The memory of each game that is followed, after the reset and after each step"""
    rams: dict[int, list[np.ndarray]] = {1: [], 2: []}

    def look() -> None:
        for index, seen in rams.items():
            seen += env.env_method("get_ram", indices=index)

    env.reset()
    look()
    for action in actions:
        env.step(action)
        look()
    return rams


def test_vectorised_games_are_counted_exactly(tmp_path: Path) -> None:
    env = make("venture", 3, ram_envs=2, monitor_dir=tmp_path)
    rams = play(env, random_actions(env, 150))
    cells = {index: {POSITIONS["venture"].cell(ram) for ram in seen} for index, seen in rams.items()}
    assert cells[1] != cells[2]
    assert env.coverage.cells == cells[1] | cells[2]
    assert {index: env.coverage.of_game(index)["cells"] for index in rams} == {i: len(c) for i, c in cells.items()}
    # the step at which each cell was new is in the file
    table = pd.read_csv(tmp_path / "discoveries.csv")
    assert set(zip(table.room, table.x, table.y, strict=True)) == env.coverage.cells and not table.duplicated("steps").all()
    for steps in (3, 150, 450):
        seen = {POSITIONS["venture"].cell(ram) for index in rams for ram in rams[index][: 1 + steps // 3]}
        assert (table.steps <= steps).sum() == len(seen)
    env.close()


def test_games_without_known_bytes_are_not_counted(tmp_path: Path) -> None:
    env = make("breakout", ram_envs=1, monitor_dir=tmp_path, max_episode_steps=5)
    env.reset()
    for action in random_actions(env, 5):
        infos = env.step(action)[3]
    assert set(infos[0]["episode"]) == {"r", "l", "t"}
    assert env.coverage.of_training() == {} and not (tmp_path / "discoveries.csv").exists()
    env.close()


def test_games_without_rooms_or_keys_have_no_such_columns() -> None:
    assert {rom: Coverage(rom).columns for rom in ("freeway", "venture", MONTEZUMA)} == {
        "freeway": ("cells",),
        "venture": ("rooms", "cells"),
        MONTEZUMA: ("rooms", "cells", "keys", "doors"),
    }


def test_restored_games_continue_to_count(tmp_path: Path) -> None:
    folders = [tmp_path / "whole", tmp_path / "resumed"]
    env = make(MONTEZUMA, 3, ram_envs=2, monitor_dir=folders[0], max_episode_steps=60)
    actions = random_actions(env, 160)
    env.reset()
    for action in actions[:90]:
        env.step(action)
    state: Any = env.get_training_state()
    # what a training finds after its last state is cut off the file
    folders[1].mkdir()
    text = (folders[0] / "discoveries.csv").read_text()
    (folders[1] / "discoveries.csv").write_text(text + "270,2,cell,1,0,0\n")
    for number in range(3):
        (folders[1] / f"{number}.monitor.csv").write_text((folders[0] / f"{number}.monitor.csv").read_text())
    other = make(MONTEZUMA, 3, ram_envs=2, monitor_dir=folders[1], max_episode_steps=60, override_existing=False)
    other.set_training_state(state)
    np.testing.assert_equal(other.coverage.get_state(), state["coverage"])
    assert (folders[1] / "discoveries.csv").read_text() == text
    for action in actions[90:]:
        env.step(action)
        other.step(action)
    np.testing.assert_equal(other.coverage.get_state(), env.coverage.get_state())
    tables = [(folder / "discoveries.csv").read_text() for folder in folders]
    assert tables[0] == tables[1] and len(tables[0]) > len(text)
    env.close()
    other.close()


def test_coverage_is_logged_for_any_algorithm() -> None:
    env = make(MONTEZUMA, 2, ram_envs=2, max_episode_steps=10)
    model = PPO("CnnPolicy", VecFrameStack(env, 2), n_steps=16, batch_size=8, n_epochs=1, device="cpu", seed=0)
    values: dict[str, Any] = {}

    class Dump(KVWriter):
        def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
            values.update(key_values)

    model.set_logger(Logger(None, [Dump()]))
    model.learn(32, callback=CoverageCallback())
    assert values["rollout/rooms_mean"] == values["rollout/rooms_total"] == 1
    assert values["rollout/cells_total"] == len(env.coverage.cells) >= values["rollout/cells_mean"] > 1
    assert values["rollout/keys_total"] == values["rollout/doors_mean"] == 0
