"""Observations with very large numbers, and tensors of types that every device has."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import SHORT, VECTOR, make_random_envs

from sb3_lwm import LWMDQN
from sb3_lwm.common.finite_guard import FiniteGuard
from sb3_lwm.world_model.normalizer import LARGEST_VALUE, RunningStandardizer


def make_model(space: spaces.Space, policy: str = "MlpPolicy") -> LWMDQN:
    return LWMDQN(policy, make_random_envs(space, 2), seed=0, **SHORT)


@pytest.mark.parametrize("size", [1e20, 3e38])
def test_learns_from_very_large_numbers(size: float) -> None:
    model = make_model(spaces.Box(-size, size, (3,), np.float32)).learn(200)
    assert model._n_updates > 10
    assert all(th.isfinite(tensor).all() for tensor in model.policy.state_dict().values())


@pytest.mark.parametrize("size", [1e3, 1e15, 1e20, 3e38, float("inf")])
def test_large_numbers_are_standardised(size: float) -> None:
    standardizer = RunningStandardizer(2)
    values = th.tensor([[size, 1.0], [-size, 3.0]]).repeat(5000, 1)
    for _ in range(3):
        standardizer.update(values)
    th.testing.assert_close(standardizer(values[:2]), th.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert standardizer.variance[0] == pytest.approx(min(size, LARGEST_VALUE) ** 2, rel=1e-5)


def test_error_names_the_largest_number() -> None:
    # finite in double precision, which the networks do not have
    model = make_model(spaces.Box(-1e200, 1e200, (3,), np.float64))
    with pytest.raises(ValueError, match=r"loss is .*as large as \d(\.\d+)?e\+\d+: scale the observations"):
        model.learn(200)


@pytest.mark.parametrize(("largest", "is_named"), [(3.0, False), (-2e7, True)])
def test_numbers_are_named_if_they_are_large(largest: float, is_named: bool) -> None:
    guard = FiniteGuard(lambda: "(Step 1.)")
    guard.check_step({"small": np.ones((2, 1)), "reward": np.array([[0.0], [largest]])}, np.full(2, 1e9))
    guard.check_step(np.zeros((2, 3)), np.zeros(2))
    weight = th.nn.Parameter(th.ones(()))
    with pytest.raises(ValueError, match="lower it") as error:
        guard.backward(th.optim.SGD([weight], lr=0.1), weight * float("nan"), "world model", "lower it")
    assert ("as large as 2e+07" in str(error.value)) == is_named


# --- Types ---


@pytest.mark.parametrize(
    ("policy", "space"),
    [
        ("MlpPolicy", VECTOR),
        ("MlpPolicy", spaces.Box(-1.0, 1.0, (3,), np.float64)),
        ("MlpPolicy", spaces.MultiDiscrete([3, 2])),
        ("CnnPolicy", spaces.Box(0, 255, (7, 7, 3), np.uint8)),
    ],
    ids=str,
)
def test_no_tensor_has_double_precision(policy: str, space: spaces.Space) -> None:
    # which MPS has not
    model = make_model(space, policy)
    assert {tensor.dtype for tensor in model.policy.state_dict().values()} == {th.float32}
    assert {tensor.dtype for tensor in model.policy.buffers()} <= {th.float32, th.int64, th.bool}


def whole_count(standardizer: RunningStandardizer) -> int:
    return int(standardizer.count.double() + standardizer.count_rest.double())


def test_count_of_the_standardizer_is_exact() -> None:
    standardizer = RunningStandardizer(1)
    # where single precision has steps of 4
    standardizer.count.fill_(2**25)
    for step in range(1, 12):
        standardizer.update(th.ones(1, 1))
        assert whole_count(standardizer) == 2**25 + step
    assert abs(float(standardizer.count) - 2**25 - 11) <= 2


@pytest.mark.parametrize("count", [12345, 2**25 + 1])
def test_count_that_was_saved_in_double_precision_is_loaded(count: int) -> None:
    standardizer = RunningStandardizer(1)
    old = {name: value for name, value in standardizer.state_dict().items() if name != "count_rest"}
    standardizer.load_state_dict({**old, "count": th.tensor(float(count), dtype=th.float64)})
    assert whole_count(standardizer) == count and standardizer.count.dtype == standardizer.count_rest.dtype == th.float32
    other = RunningStandardizer(1)
    other.load_state_dict(standardizer.state_dict())
    assert whole_count(other) == count
