"""Environments of the package. Importing this module registers them with Gymnasium."""

import gymnasium as gym

from sb3_lwm.envs.atari import AtariVecEnv, CoverageCallback
from sb3_lwm.envs.copying import CopyFinalObservation
from sb3_lwm.envs.labyrinth import PartiallyObservableLabyrinthEnv
from sb3_lwm.envs.minigrid import BinaryCells, register_rooms
from sb3_lwm.envs.reporting import ReportingSubprocVecEnv

__all__ = [
    "AtariVecEnv",
    "BinaryCells",
    "CopyFinalObservation",
    "CoverageCallback",
    "PartiallyObservableLabyrinthEnv",
    "ReportingSubprocVecEnv",
    "register_envs",
]

MAX_EPISODE_STEPS = 1000


def register_envs() -> None:
    """
    Register ``POL-3x3-v0`` to ``POL-6x6-v0`` and ``POL-v0`` (with the argument ``size``, 3 by default) with Gymnasium, and
    rooms of MiniGrid, see :func:`~sb3_lwm.envs.minigrid.register_rooms`.

    Ids that are already registered are skipped, so that the function may be called again without a warning.
    """
    sizes = {f"POL-{size}x{size}-v0": size for size in (3, 4, 5, 6)} | {"POL-v0": 3}
    for env_id, size in sizes.items():
        if env_id not in gym.registry:
            gym.register(
                id=env_id,
                # a string, so that the spec can be pickled and used in a process that has not imported this module
                entry_point="sb3_lwm.envs.labyrinth:PartiallyObservableLabyrinthEnv",
                max_episode_steps=MAX_EPISODE_STEPS,
                kwargs={"size": size},
            )
    register_rooms()


register_envs()
