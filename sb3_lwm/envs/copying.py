"""A wrapper for environments that write all of their observations into the same array."""

import copy
from typing import Any

import gymnasium as gym


class CopyFinalObservation(gym.Wrapper[Any, Any, Any, Any]):
    """
    Copies the last observation of an episode. SB3's vector environments keep the array itself while they reset the
    environment, which may write the first observation of the next episode into it (as NLE and MiniHack do).

    ``LWMDQN`` applies it to an environment that is not vectorised, and ``ReportingSubprocVecEnv`` to each of its
    environments; for other vector environments use ``make_vec_env(..., wrapper_class=CopyFinalObservation)``.

    :param env: The environment
    """

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """
        :param kwargs: The arguments of the environment's own reset; only the given ones are passed on, since an environment
            may not accept ``options``
        :return: The result of the environment's own reset
        """
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        :param action: The action
        :return: The result of the environment's own step
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            observation = copy.deepcopy(observation)
        return observation, reward, terminated, truncated, info
