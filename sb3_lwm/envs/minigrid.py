"""Observations and further tasks for MiniGrid, whose package ``minigrid`` is in the extra of this name."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class BinaryCells(gym.ObservationWrapper):
    """
    MiniGrid's field of view as flags: one-hot vectors of the object in each cell, its colour and its state. The mission and
    the direction are left out.

    Real values would be standardised: a rare object would then have a value of a hundred standard deviations, and would
    dominate the prediction error of the world model.

    :param env: A MiniGrid environment whose observations are dictionaries with an ``"image"`` of integers, of shape
        (width, height, 3); such an array alone (``minigrid.wrappers.ImgObsWrapper``) is accepted as well
    :raises ValueError: If the environment has other observations
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

        space = env.observation_space
        space = space["image"] if isinstance(space, spaces.Dict) and "image" in space.spaces else space
        if not isinstance(space, spaces.Box) or len(space.shape) != 3 or space.shape[2] != 3:
            raise ValueError(
                f"BinaryCells takes MiniGrid's own observations, (width, height, 3) integers, not {space}: apply it before "
                "other wrappers of observations."
            )
        sizes = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))
        self._tables = [np.eye(size, dtype=np.int8) for size in sizes]
        self.observation_space = spaces.MultiBinary(space.shape[0] * space.shape[1] * sum(sizes))

    def observation(self, observation: Any) -> np.ndarray:
        """
        :param observation: The observation of MiniGrid
        :return: The flags, (width * height * 20,) int8, 0 or 1
        """
        image = observation["image"] if isinstance(observation, dict) else observation
        parts = [table[image[..., channel]] for channel, table in enumerate(self._tables)]
        return np.concatenate(parts, axis=-1).reshape(-1)


def register_rooms() -> None:
    """
    Register ``MiniGrid-MultiRoom-N<rooms>-S<size>-v0`` with Gymnasium for numbers and sizes of rooms from the literature that
    MiniGrid does not register: N7-S4, N7-S8, N10-S4 and N10-S10.
    """
    for rooms, size in ((7, 4), (7, 8), (10, 4), (10, 10)):
        env_id = f"MiniGrid-MultiRoom-N{rooms}-S{size}-v0"
        if env_id not in gym.registry:
            kwargs = {"minNumRooms": rooms, "maxNumRooms": rooms, "maxRoomSize": size}
            # a string, so that MiniGrid is only needed when such an environment is made
            gym.register(id=env_id, entry_point="minigrid.envs:MultiRoomEnv", kwargs=kwargs)
