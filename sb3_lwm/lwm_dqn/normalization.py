"""Environments in a VecNormalize: the replay stores their original observations and rewards, not the normalised ones."""

from typing import Any

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage


def check_normalization(env: VecEnv) -> None:
    """
    :param env: Environments in a VecNormalize
    :raises ValueError: If a wrapper around it changes the observations, so that the replay could not normalise them
    """
    while isinstance(env, VecEnvWrapper) and not isinstance(env, VecNormalize):
        if not isinstance(env, VecTransposeImage) and env.observation_space != env.venv.observation_space:
            raise ValueError(
                f"{type(env).__name__} changes the observations that VecNormalize has normalised, which the replay cannot "
                f"repeat: put VecNormalize around {type(env).__name__}."
            )
        env = env.venv


def original_observations(env: VecEnv) -> Any:
    """
    :param env: Environments in a VecNormalize, as :func:`check_normalization` accepts them
    :return: The observations of the last step before normalisation, (n_envs, *observation shape), or a dictionary of them
    """
    if isinstance(env, VecNormalize):
        return env.get_original_obs()
    assert isinstance(env, VecEnvWrapper)
    observations = original_observations(env.venv)
    return env.transpose_observations(observations) if isinstance(env, VecTransposeImage) else observations
