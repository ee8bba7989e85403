"""Registers the algorithm with the Zoo: its class, its search space for Optuna, and its ``ExperimentManager``."""

import importlib
from types import ModuleType
from typing import Any

from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS

from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.zoo.sweep.search_space import convert_lwm_dqn_params, sample_lwm_dqn_params

ALGORITHM = "lwm_dqn"


def register() -> None:
    """
    Add ``lwm_dqn`` to the Zoo's algorithms, and make ``ExperimentManager(..., algo="lwm_dqn", ...)`` construct
    :class:`~sb3_lwm.zoo.experiment.LWMExperimentManager`, and for other algorithms
    :class:`~sb3_lwm.zoo.experiment.IntrinsicRewardManager`.

    The environments are registered by the import of ``sb3_lwm``. The function may be called any number of times.
    """
    # changed in place, since all of the Zoo's modules have imported these dictionaries by name
    ALGOS[ALGORITHM] = LWMDQN
    HYPERPARAMS_SAMPLER[ALGORITHM] = sample_lwm_dqn_params
    HYPERPARAMS_CONVERTER[ALGORITHM] = convert_lwm_dqn_params
    exp_manager = importlib.import_module("rl_zoo3.exp_manager")
    if hasattr(exp_manager, "ExperimentManager"):
        _install(exp_manager.ExperimentManager)
    else:
        # rl_zoo3.exp_manager imports custom_envs, which calls this function, before it defines the class
        exp_manager.__class__ = _HookedOnFirstUse


class _HookedOnFirstUse(ModuleType):
    """The module ``rl_zoo3.exp_manager`` until ``ExperimentManager`` is read from it for the first time."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "ExperimentManager":
            self.__class__ = ModuleType  # type: ignore[assignment]
            _install(value)
        return value


def _install(zoo_class: type) -> None:
    """Make the Zoo's class, which ``rl_zoo3.train`` imports by name, construct the classes of this package."""

    def construct(cls: type, *args: Any, **kwargs: Any) -> Any:
        # a copy is constructed without arguments; otherwise the algorithm is the second one
        if cls is zoo_class and (args or kwargs):
            # imported late, since the base class of its classes may not be defined before
            experiment = importlib.import_module("sb3_lwm.zoo.experiment")
            is_ours = ALGORITHM in (kwargs.get("algo"), *args[1:2])
            cls = experiment.LWMExperimentManager if is_ours else experiment.IntrinsicRewardManager
        return object.__new__(cls)

    zoo_class.__new__ = staticmethod(construct)  # type: ignore[assignment]
