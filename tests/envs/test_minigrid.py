"""MiniGrid's cells as flags, and the rooms that it does not register."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from sb3_lwm.envs import BinaryCells

minigrid = pytest.importorskip("minigrid")


def test_each_cell_is_one_hot_by_object_colour_and_state() -> None:
    env = gym.make("MiniGrid-DoorKey-5x5-v0")
    wrapped = BinaryCells(env)
    assert wrapped.observation_space == spaces.MultiBinary(7 * 7 * (11 + 6 + 3))
    flags, _ = wrapped.reset(seed=0)
    image = env.unwrapped.gen_obs()["image"]
    cells = flags.reshape(7, 7, 20)
    for part, first, last in ((0, 0, 11), (1, 11, 17), (2, 17, 20)):
        np.testing.assert_array_equal(cells[..., first:last].argmax(axis=-1), image[..., part])
        assert (cells[..., first:last].sum(axis=-1) == 1).all()
    assert wrapped.observation_space.contains(flags)


def test_the_same_flags_without_the_mission() -> None:
    whole, alone = (
        BinaryCells(wrap(gym.make("MiniGrid-Empty-5x5-v0"))) for wrap in (lambda env: env, minigrid.wrappers.ImgObsWrapper)
    )
    np.testing.assert_array_equal(whole.reset(seed=1)[0], alone.reset(seed=1)[0])


def test_other_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="BinaryCells takes MiniGrid's own observations"):
        BinaryCells(gym.make("CartPole-v1"))


@pytest.mark.parametrize(("rooms", "size"), [(7, 4), (7, 8), (10, 4), (10, 10)])
def test_rooms_of_the_literature_are_registered(rooms: int, size: int) -> None:
    env = gym.make(f"MiniGrid-MultiRoom-N{rooms}-S{size}-v0")
    env.reset(seed=0)
    assert len(env.unwrapped.rooms) == rooms
    assert all(max(room.size) <= size for room in env.unwrapped.rooms)
