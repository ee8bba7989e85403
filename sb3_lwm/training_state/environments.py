"""The states of the environments in a training state, if the environments can return them."""

import copy
import re
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from sb3_lwm.envs.atari.records import cut_monitor_file

# The two methods that return and restore the state of an environment, of a VecEnvWrapper, or of a callback
GET, SET = "get_training_state", "set_training_state"

# The attributes in which wrappers of one environment keep data between two steps, by the name of the wrapper; add your own
WRAPPERS: dict[str, tuple[str, ...]] = {
    "Monitor": (
        *("rewards", "needs_reset", "total_steps", "current_reset_info"),
        *("episode_returns", "episode_lengths", "episode_times"),
    ),
    "TimeLimit": ("_elapsed_steps",),
    # a wrapper of the Zoo
    "PatchedTimeLimit": ("_elapsed_steps",),
    "OrderEnforcing": ("_has_reset",),
    # it checks the first steps only, which have been taken
    "PassiveEnvChecker": (),
    # wrappers that keep no data
    **dict.fromkeys(("CopyFinalObservation", "ErrorReporter"), ()),
    **dict.fromkeys(("ClipAction", "ClipReward", "DtypeObservation", "FilterObservation", "FlattenObservation"), ()),
    **dict.fromkeys(("GrayscaleObservation", "RescaleAction", "RescaleObservation", "ReshapeObservation"), ()),
    **dict.fromkeys(("ResizeObservation", "TransformAction", "TransformObservation", "TransformReward"), ()),
}
CONSEQUENCE = (
    "When this training is resumed, the environments will be reset, which ends their present episodes like a time-out: "
    "the training continues, but not exactly as without the interruption."
)
CHECKED = ("checked_reset", "checked_step", "checked_data_reuse")
STATISTICS = "running mean and variance"
VEC_WRAPPERS: dict[type[VecEnvWrapper], tuple[str, ...]] = {
    VecMonitor: ("episode_returns", "episode_lengths", "episode_count"),
    VecNormalize: ("obs_rms", "ret_rms", "returns"),
    VecTransposeImage: (),
    VecExtractDictObs: (),
    VecCheckNan: (),
}


class UnknownStateError(Exception):
    """Raised for environments that cannot return their state; the message names the part at fault and the remedy."""


def environment_state(env: VecEnv) -> dict[str, Any]:
    """
    :param env: The environments, between two steps
    :return: All data on which the next observations depend, except for the actions
    :raises UnknownStateError: If a wrapper or the environments cannot return their state
    """
    layers = []
    while isinstance(env, VecEnvWrapper):
        if hasattr(type(env), GET):
            layers.append(getattr(env, GET)())
        elif type(env) in VEC_WRAPPERS:
            # a VecNormalize that does not normalise observations has no statistics of them
            names = [name for name in VEC_WRAPPERS[type(env)] if hasattr(env, name)]
            layers.append({name: _plain(copy.copy(getattr(env, name))) for name in names})
        else:
            raise _unknown(type(env).__name__)
        env = env.venv
    return {"layers": layers, "base": _base_state(env)}


def set_environment_state(env: VecEnv, state: dict[str, Any]) -> None:
    """
    :param env: Environments that were made in the same way as those of the state
    :param state: The result of :func:`environment_state`
    """
    for layer in state["layers"]:
        assert isinstance(env, VecEnvWrapper)
        if hasattr(type(env), SET):
            getattr(env, SET)(layer)
        else:
            vars(env).update({name: _restored(value) for name, value in layer.items()})
        env = env.venv
    if hasattr(type(env), SET):
        getattr(env, SET)(state["base"])
        return
    # the next reset must not use the seeds that the agent's constructor has set
    env._reset_seeds()
    if isinstance(env, DummyVecEnv) and "episode_returns" in state["base"][0]["wrappers"]:
        # the files of environments in other processes cannot be reached
        for writer, part in zip(env.get_attr("results_writer"), state["base"], strict=True):
            if writer is not None:
                cut_monitor_file(writer, len(part["wrappers"]["episode_returns"]))
    for index, part in enumerate(state["base"]):
        env.env_method(SET, part["own"], indices=index)
        generator = np.random.default_rng()
        generator.bit_generator.state = part["generator"]
        env.env_method("set_wrapper_attr", "np_random", generator, indices=index)
        for name in CHECKED:
            env.env_method("set_wrapper_attr", name, True, indices=index, force=False)
        for name, value in part["wrappers"].items():
            env.env_method("set_wrapper_attr", name, value, indices=index)


def _plain(value: Any) -> Any:
    """Return a value with its running statistics as dictionaries."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return {STATISTICS: vars(value)} if isinstance(value, RunningMeanStd) else value


def _restored(value: Any) -> Any:
    """Return the value from which :func:`_plain` has made this one."""
    if not isinstance(value, dict):
        return value
    if STATISTICS not in value:
        return {key: _restored(part) for key, part in value.items()}
    statistics = RunningMeanStd()
    vars(statistics).update(value[STATISTICS])
    return statistics


def _base_state(env: VecEnv) -> Any:
    if hasattr(type(env), GET):
        try:
            return getattr(env, GET)()
        except NotImplementedError as error:
            raise UnknownStateError(f"{error} {CONSEQUENCE}") from error
    # other vectorised environments may hold data that is not known here
    if not isinstance(env, DummyVecEnv | SubprocVecEnv):
        raise _unknown(type(env).__name__)
    chains = [_wrapper_names(text) for text in env.env_method("__str__")]
    if not all(env.env_method("has_wrapper_attr", GET)):
        raise _unknown(env.env_method("__str__")[0])
    names = [name for wrapper in chains[0] for name in WRAPPERS[wrapper]]
    wrappers = [dict(zip(names, values, strict=True)) for values in zip(*(env.get_attr(name) for name in names), strict=True)]
    wrappers = wrappers or [{} for _ in chains]
    generators = [generator.bit_generator.state for generator in env.get_attr("np_random")]
    owns = env.env_method(GET)
    # copies, because environments in this process return their own lists
    parts = zip(owns, generators, wrappers, strict=True)
    return [{"own": own, "generator": generator, "wrappers": copy.deepcopy(known)} for own, generator, known in parts]


def _wrapper_names(text: str) -> list[str]:
    """Return the names of an environment's wrappers, the outermost first."""
    names = re.findall(r"<(\w+)", text)
    # the last names are that of the environment itself, and its id if it has one
    wrappers = names[:-1] if text.rstrip(">").endswith(" instance") else names[:-2]
    for name in wrappers:
        if name not in WRAPPERS:
            raise _unknown(f"The wrapper {name}")
    return wrappers


def _unknown(name: str) -> UnknownStateError:
    return UnknownStateError(
        f"{name} cannot give its state (methods {GET} and {SET}; of a wrapper, an entry in "
        f"sb3_lwm.training_state.environments.WRAPPERS). {CONSEQUENCE}"
    )
