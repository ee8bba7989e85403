"""Games whose ROM ends the emulator, and the program with it, are refused before."""

import subprocess
import sys

import ale_py.roms

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


def test_vector_environment_refuses_them() -> None:
    # in a process of its own, which the emulator would end without an exception
    program = "from sb3_lwm import AtariVecEnv; AtariVecEnv('combat', 1)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "ValueError: The emulator of ale-py does not know the ROM of 'combat'" in done.stderr
