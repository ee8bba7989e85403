"""The next observation of each transition, also where the environment has already begun a new episode."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from sb3_lwm.common.type_aliases import map_observations


def next_observations(
    last_obs: Any,
    new_obs: Any,
    dones: np.ndarray,
    infos: list[dict[str, Any]],
    restore: Callable[[Any], Any] | None = None,
) -> Any:
    """
    Some vector environments do not keep the final observation of an episode (``terminal_observation`` is missing or None).
    Then the observation before the last action replaces it: a time-out bootstraps from it, and the world model learns that
    nothing changes in this step.

    :param last_obs: The observations before the actions, (n_envs, *observation shape), or a dictionary of such arrays
    :param new_obs: The observations that the environments returned after the actions, of the same form; where an episode has
        ended, the first observation of the next one
    :param dones: Whether each episode has ended, (n_envs,) bool
    :param infos: The info dictionaries of the environments
    :param restore: The function that undoes the normalisation of a final observation; None without normalisation
    :return: The observations after the actions; where an episode has ended, its final one
    """
    ended = np.flatnonzero(dones)
    if len(ended) == 0:
        return new_obs
    next_obs = map_observations(np.copy, new_obs)
    for env in ended:
        final = infos[env].get("terminal_observation")
        if final is None:
            warnings.warn(
                "The environments do not return the final observations of episodes (infos[i]['terminal_observation']): the "
                "observations before them are used instead. Add them in the adapter of your vector environment.",
                stacklevel=2,
            )
            final = map_observations(lambda part, env=env: part[env], last_obs)
        elif restore is not None:
            final = restore(final)
        if isinstance(next_obs, dict):
            for key, part in next_obs.items():
                part[env] = final[key]
        else:
            next_obs[env] = final
    return next_obs
