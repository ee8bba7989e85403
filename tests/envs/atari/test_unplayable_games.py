"""Games whose ROM ends the emulator, and the program with it, are refused before."""

import subprocess
import sys

import ale_py.roms
import pytest

from sb3_lwm.envs.atari.games import find_game

UNPLAYABLE = {"combat", "joust", "maze_craze", "warlords"}


def test_games_that_the_emulator_does_not_know() -> None:
    refused = set()
    for rom in ale_py.roms.get_all_rom_ids():
        try:
            find_game(rom)
        except ValueError as error:
            assert rom in str(error) and "choose another game" in str(error)
            refused.add(rom)
    # 104 others
    assert refused == UNPLAYABLE


@pytest.mark.parametrize("game", ["combat"])
def test_vector_environment_refuses_them(game: str) -> None:
    # in a process of its own, which the emulator would end without an exception
    program = (
        f"from sb3_lwm import AtariVecEnv\ntry:\n    AtariVecEnv({game!r}, 1)\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and f"does not know the ROM of '{game}'" in done.stdout
