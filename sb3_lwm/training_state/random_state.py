"""Every random generator that a training draws from, but those of the environments."""

import random
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces


def random_state(action_space: spaces.Space) -> dict[str, Any]:
    """
    :param action_space: of the agent
    :return: the state of the generators of Python, NumPy, PyTorch, its GPUs, and the action space
    """
    version, numbers, gauss = random.getstate()
    return {
        "python": (version, np.array(numbers), gauss),
        "numpy": np.random.get_state(),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if th.cuda.is_available() else [],
        "action_space": action_space.np_random.bit_generator.state,
    }


def set_random_state(action_space: spaces.Space, state: dict[str, Any]) -> None:
    """
    :param action_space: of the agent
    :param state: what :func:`random_state` has returned; GPUs that are no longer there are passed over
    """
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    np.random.set_state(state["numpy"])
    th.set_rng_state(state["torch"])
    if th.cuda.is_available():
        for device, generator in enumerate(state["cuda"][: th.cuda.device_count()]):
            th.cuda.set_rng_state(generator, device)
    action_space.np_random.bit_generator.state = state["action_space"]
