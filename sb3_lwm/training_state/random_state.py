"""The random generators of a training, except for those of the environments."""

import random
from typing import Any, Protocol

import numpy as np
import torch as th
from gymnasium import spaces


class Drawing(Protocol):
    """An agent with its own random generators."""

    action_space: spaces.Space
    rng: np.random.Generator
    torch_rng: th.Generator


def random_state(agent: Drawing) -> dict[str, Any]:
    """
    :param agent: The agent of the training
    :return: The states of its generators, of its action space's, and of the global ones of Python, NumPy and PyTorch
    """
    version, numbers, gauss = random.getstate()
    return {
        "python": (version, np.array(numbers), gauss),
        "numpy": np.random.get_state(),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if th.cuda.is_available() else [],
        "action_space": agent.action_space.np_random.bit_generator.state,
        "agent": agent.rng.bit_generator.state,
        "agent_torch": agent.torch_rng.get_state(),
    }


def set_random_state(agent: Drawing, state: dict[str, Any]) -> None:
    """
    :param agent: The agent of the training
    :param state: The result of :func:`random_state`; the generators of GPUs that this machine does not have are left out
    """
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    np.random.set_state(state["numpy"])
    th.set_rng_state(state["torch"])
    if th.cuda.is_available():
        for device, generator in enumerate(state["cuda"][: th.cuda.device_count()]):
            th.cuda.set_rng_state(generator, device)
    agent.action_space.np_random.bit_generator.state = state["action_space"]
    agent.rng.bit_generator.state = state["agent"]
    # a generator of another type of device has a state of another size
    if state["agent_torch"].shape == agent.torch_rng.get_state().shape:
        agent.torch_rng.set_state(state["agent_torch"])
