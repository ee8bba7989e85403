"""Random shifts of frames against ``roll``."""

import pytest
import torch as th
from world_model_helpers import shifts_of

from sb3_lwm.world_model.augmentation import random_shift


@pytest.mark.parametrize(("channels", "height", "width", "max_shift"), [(1, 12, 9, 4), (3, 10, 16, 2), (2, 3, 3, 1)])
def test_random_shift_is_a_roll_of_each_frame(channels: int, height: int, width: int, max_shift: int) -> None:
    th.manual_seed(0)
    frames = th.randint(256, (300, channels, height, width), dtype=th.uint8)
    shifted = random_shift(frames, max_shift)
    assert (shifted.shape, shifted.dtype) == (frames.shape, th.uint8)
    found = [shifts_of(frame, moved, max_shift) for frame, moved in zip(frames, shifted, strict=True)]
    # random frames have one shift each; both bounds of both axes come up, and the axes are drawn apart
    assert all(len(shifts) == 1 for shifts in found)
    for axis in range(2):
        assert {shifts[0][axis] for shifts in found} == set(range(-max_shift, max_shift + 1))
    assert len({shifts[0] for shifts in found}) > 2 * max_shift + 1


def test_random_shift_of_nothing_and_beyond_the_frame() -> None:
    frames = th.randint(256, (20, 1, 3, 3), dtype=th.uint8)
    assert th.equal(random_shift(frames, 0), frames)
    for frame, moved in zip(frames, random_shift(frames, 5), strict=True):
        assert shifts_of(frame, moved, 1), "a shift by 5 of 3 pixels is one by -1"
    with pytest.raises(ValueError, match="negative, got -1"):
        random_shift(frames, -1)


def test_random_shift_is_seeded() -> None:
    frames = th.randint(256, (8, 1, 12, 12), dtype=th.uint8)
    results = []
    for seed in (3, 3, 4):
        th.manual_seed(seed)
        results.append(random_shift(frames, 4))
    assert th.equal(results[0], results[1]) and not th.equal(results[0], results[2])
