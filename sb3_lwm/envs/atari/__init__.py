"""Atari games played by the threads of ale-py."""

from sb3_lwm.envs.atari.callback import CoverageCallback
from sb3_lwm.envs.atari.vec_env import AtariVecEnv

__all__ = ["AtariVecEnv", "CoverageCallback"]
