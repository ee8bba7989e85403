"""Adam in one pass against Adam itself."""

import copy
from typing import Any
from unittest import mock

import pytest
import torch as th

from sb3_lwm.common import optimizers
from sb3_lwm.common.optimizers import optimizer_step

SETTINGS: list[dict[str, Any]] = [{}, {"eps": 1e-3}, {"weight_decay": 0.1, "betas": (0.8, 0.9)}, {"maximize": True}]


def make(**kwargs: Any) -> th.optim.Adam:
    """Make an optimizer of two groups, whose last parameter never has a gradient."""
    th.manual_seed(0)
    first, second, third, unused = (th.nn.Parameter(th.randn(size)) for size in ((5, 7), (3,), (1, 2), (4,)))
    return th.optim.Adam([{"params": [first, second]}, {"params": [third, unused], "lr": 0.03}], lr=0.01, **kwargs)


def parameters(optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def give_gradients(optimizer: th.optim.Optimizer, seed: int) -> None:
    generator = th.Generator().manual_seed(seed)
    for parameter in parameters(optimizer)[:-1]:
        parameter.grad = th.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


@pytest.mark.parametrize("kwargs", SETTINGS)
def test_steps_are_those_of_adam(kwargs: dict[str, Any]) -> None:
    optimizer, adam = make(**kwargs), make(**kwargs)
    before = copy.deepcopy(parameters(adam))
    with mock.patch("sb3_lwm.common.optimizers.adam", wraps=optimizers.adam) as fused:
        for step in range(30):
            for each in (optimizer, adam):
                give_gradients(each, step)
            optimizer_step(optimizer)
            adam.step()
    # the first step makes the states
    assert fused.call_count == 29 * len(adam.param_groups)
    for ours, expected, old in zip(parameters(optimizer), parameters(adam), before, strict=True):
        th.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
        assert (ours is parameters(optimizer)[-1]) == th.equal(ours, old)
    # what is saved has the same form
    state, expected_state = optimizer.state_dict(), adam.state_dict()
    assert state["param_groups"] == expected_state["param_groups"]
    assert state["state"].keys() == expected_state["state"].keys()
    for index, values in expected_state["state"].items():
        assert values["step"] == state["state"][index]["step"] == 30
        assert values.keys() == state["state"][index].keys()


def test_loaded_optimizer_continues_with_the_same_numbers() -> None:
    optimizer = make()
    for step in range(3):
        give_gradients(optimizer, step)
        optimizer_step(optimizer)
    loaded = make()
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for own, other in zip(parameters(loaded), parameters(optimizer), strict=True):
        own.data.copy_(other.data)
    for each in (optimizer, loaded):
        for step in range(3, 6):
            give_gradients(each, step)
            optimizer_step(each)
    assert all(th.equal(own, other) for own, other in zip(parameters(loaded), parameters(optimizer), strict=True))


@pytest.mark.parametrize("kind", ["amsgrad", "foreach", "hook", "subclass", "double", "channels last", "other"])
def test_all_else_is_left_to_the_optimizer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer: th.optim.Optimizer = make(**{kind: True} if kind in ("amsgrad", "foreach") else {})
    if kind == "subclass":
        optimizer = th.optim.AdamW(parameters(optimizer))
    if kind == "other":
        optimizer = th.optim.RMSprop(parameters(optimizer))
    calls: list[int] = []
    if kind == "hook":
        optimizer.register_step_post_hook(lambda *_: calls.append(1))
    if kind == "double":
        optimizer = th.optim.Adam([parameter.detach().double().requires_grad_() for parameter in parameters(optimizer)])
    if kind == "channels last":
        weight = th.nn.Conv2d(3, 4, 2).to(memory_format=th.channels_last).weight  # type: ignore[call-overload]
        optimizer = th.optim.Adam([weight, *parameters(optimizer)])
    with monkeypatch.context() as patch:
        patch.setattr("sb3_lwm.common.optimizers.adam", lambda *_, **__: pytest.fail("not by the fused function"))
        for step in range(3):
            give_gradients(optimizer, step)
            optimizer_step(optimizer)
    assert len(calls) == (3 if kind == "hook" else 0)
    assert all(int(state["step"]) == 3 for state in optimizer.state.values())
