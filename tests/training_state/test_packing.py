"""Nested values as JSON and arrays."""

import json

import numpy as np
import pytest
import torch as th

from sb3_lwm.training_state.packing import pack, unpack


def test_unpacked_values_equal_the_packed_ones() -> None:
    value = {
        "numbers": [0.1, float("inf"), -0.0, 2**200, True, None, "word"],
        3: (1, [2.5] * 200, {"deep": [np.float32(0.1), np.bool_(True)]}),
        "arrays": [np.arange(3, dtype=np.int8), th.tensor([1.5, 2.5]), th.tensor(3), np.zeros((0, 2))],
    }
    arrays: list[np.ndarray] = []
    back = unpack(json.loads(json.dumps(pack(value, arrays))), arrays)
    assert repr(back) == repr(value)
    for wrong in (object(), np.array([object()]), lambda: None):
        with pytest.raises(TypeError, match="a training state holds no"):
            pack({"x": [wrong]}, [])
