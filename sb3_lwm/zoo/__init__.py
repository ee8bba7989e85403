"""The interface to rl_zoo3: the only part of the package that imports it."""

from sb3_lwm.zoo.hyperparameters import find_hyperparameters
from sb3_lwm.zoo.registration import register

__all__ = ["find_hyperparameters", "register"]
