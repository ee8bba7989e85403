"""Rules by which the Q-network and the world model read an observation as an image, as a class or as numbers."""

from collections.abc import Iterable

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from torch import nn

from sb3_lwm.common.type_aliases import Observations


def is_image(space: spaces.Space, normalize_images: bool = True) -> bool:
    """
    SB3's rule: images are unsigned bytes from 0 to 255 in three dimensions. With ``normalize_images=False`` the environment
    has normalised its images itself, and any Box of three dimensions, channels first, is an image.

    :param space: The space of an observation, or of one part of a Dict
    :param normalize_images: Whether the networks divide pixels by 255
    :return: Whether its observations are images
    """
    return is_image_space(space, normalized_image=not normalize_images)


def is_binary(space: spaces.Space) -> bool:
    """
    :param space: The space of an observation, or of one part of a Dict
    :return: Whether all numbers that the networks get for it are 0 or 1
    """
    if not isinstance(space, spaces.Box):
        return True
    is_integer = np.issubdtype(space.dtype, np.integer) or space.dtype == np.bool_
    return bool(is_integer and (space.low == 0).all() and (space.high == 1).all())


def preprocess(observations: Observations, space: spaces.Space, normalize_images: bool = True) -> Observations:
    """
    SB3's ``preprocess_obs``, also for Discrete and MultiDiscrete spaces that do not start at 0, and for dictionaries that have
    more keys than the space or another order of keys.

    :param observations: The observations, (N, *observation shape), or a dictionary of such tensors
    :param space: The space of one observation
    :param normalize_images: Whether pixels are divided by 255
    :return: The inputs of a network, (N, ...) float32: one-hot vectors for discrete values, the same shape otherwise
    """
    if isinstance(space, spaces.Dict):
        assert isinstance(observations, dict)
        parts = {key: preprocess(observations[key], part, normalize_images) for key, part in space.spaces.items()}
        return parts  # type: ignore[return-value]
    assert isinstance(observations, th.Tensor)
    if isinstance(space, spaces.Discrete):
        observations = observations.long() - int(space.start)
    elif isinstance(space, spaces.MultiDiscrete) and space.start.any():
        observations = observations.long() - th.as_tensor(space.start, dtype=th.int64, device=observations.device)
    return preprocess_obs(observations, space, normalize_images)


def check_observation_space(space: spaces.Space) -> None:
    """
    :param space: The observation space
    :raises ValueError: If the networks or the replay cannot use its observations; the message names the part and a remedy
    """
    parts = (
        {f"The part {key!r} of the observation space": part for key, part in space.items()}
        if isinstance(space, spaces.Dict)
        else {"The observation space": space}
    )
    if not parts:
        raise ValueError("The observation space is an empty Dict: the agent needs something to observe.")
    for what, part in parts.items():
        if not isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            raise ValueError(
                f"{what} is {part}: it must be a Box, Discrete, MultiDiscrete or MultiBinary, use "
                "gymnasium.wrappers.FlattenObservation."
            )
        if isinstance(part, spaces.Box) and part.shape == ():
            raise ValueError(
                f"{what} is {part}: a Box must have at least one axis, use gymnasium.wrappers.FlattenObservation."
            )
        if 0 in (part.shape or ()):
            raise ValueError(
                f"{what} is {part}, which is without values: remove it, for example by gymnasium.wrappers.FilterObservation; "
                "an observation needs at least one number."
            )
        if isinstance(part, spaces.MultiDiscrete) and part.nvec.ndim > 1:
            raise ValueError(
                f"{what} is a MultiDiscrete of shape {part.shape}, and only one dimension is supported: flatten nvec and "
                "observations by gymnasium.wrappers.TransformObservation."
            )


def module_names(keys: Iterable[str]) -> dict[str, str]:
    """
    Name the modules of the parts of a Dict space by their keys. PyTorch allows neither dots nor the names of a module's own
    attributes, such as ``type``; those get underscores.

    :param keys: The keys of the space
    :return: The name of the module for each key, all different
    """
    keys, taken = list(keys), nn.ModuleDict()
    names: dict[str, str] = {}
    for key in keys:
        name = key.replace(".", "_")
        while not name or hasattr(taken, name) or name in names.values() or (name != key and name in keys):
            name += "_"
        names[key] = name
    return names
