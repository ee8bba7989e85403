"""Actions of any space as vectors, by hand."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_lwm.world_model.actions import ActionEncoder


def test_discrete_actions_are_one_hot() -> None:
    encoder = ActionEncoder(spaces.Discrete(3))
    assert encoder.size == 3
    assert encoder(th.tensor([[0, 2]])).tolist() == [[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]


def test_multi_discrete_actions_are_one_hot_vectors_side_by_side() -> None:
    encoder = ActionEncoder(spaces.MultiDiscrete([2, 3]))
    assert encoder.size == 5
    assert encoder(th.tensor([[[1, 0]]])).tolist() == [[[0.0, 1.0, 1.0, 0.0, 0.0]]]


def test_multi_binary_actions_are_flags() -> None:
    encoder = ActionEncoder(spaces.MultiBinary([2, 2]))
    assert encoder(th.tensor([[[[1, 0], [0, 1]]]], dtype=th.int8)).tolist() == [[[1.0, 0.0, 0.0, 1.0]]]


def test_continuous_actions_are_clipped_and_scaled() -> None:
    low, high = np.array([0.0, -2.0], np.float32), np.array([1.0, np.inf], np.float32)
    encoder = ActionEncoder(spaces.Box(low, high))
    # 0.75 of [0, 1] is 0.5 of [-1, 1]; without an upper bound there is no scale
    assert encoder(th.tensor([[[0.75, 7.0]], [[3.0, -9.0]]])).tolist() == [[[0.5, 7.0]], [[1.0, -2.0]]]


def test_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot represent actions of Dict"):
        ActionEncoder(spaces.Dict({"a": spaces.Discrete(2)}))
