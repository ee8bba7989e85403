"""Native Atari for the Zoo: ``vec_env_wrapper: sb3_lwm.zoo.atari.native_atari`` in a block of hyperparameters."""

import os
from typing import Any

from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_lwm.envs import AtariVecEnv, CopyFinalObservation

# The arguments of AtariVecEnv that the Zoo's environment determines
_TAKEN = ("game", "n_envs", "seed", "render_mode", "monitor_dir", "override_existing")


def native_atari(venv: VecEnv, **kwargs: Any) -> AtariVecEnv:
    """
    Replace the environments that the Zoo has made by :class:`sb3_lwm.AtariVecEnv`.

    Training, evaluation, ``enjoy`` and ``record_video`` build their environments through it and see the same frames. The
    game, its settings from ``--env-kwargs``, the number of games, the seed, the render mode and the folder of the monitor
    files are those of the Zoo's environment, which is closed. It needs no ``env_wrapper``.

    :param venv: The vectorized Atari environments of ``make_vec_env``
    :param kwargs: The other arguments of ``AtariVecEnv``, as in ``native_atari: {max_episode_steps: 10000}``; ``ram_envs``
        is reduced to the number of games
    :return: The native environment
    :raises ValueError: If the environments are wrapped or are not Atari games, if the Zoo's environment determines an
        argument, or if ``SubprocVecEnv`` writes monitor files
    """
    if taken := [name for name in kwargs if name in _TAKEN]:
        raise ValueError(f"native_atari takes {taken[0]} from the Zoo's environment: remove {taken[0]}={kwargs[taken[0]]!r}.")
    if not isinstance(venv, DummyVecEnv | SubprocVecEnv):
        raise ValueError(f"native_atari replaces environments, not wrappers of them: put it before {type(venv).__name__}.")
    spec = venv.get_attr("spec")[0]
    _check_unwrapped(spec)
    monitor_files = _monitor_files(venv)
    # the seeds that make_vec_env has set for the first reset
    seed, n_envs, render_mode = venv._seeds[0], venv.num_envs, venv.render_mode
    # the evaluation has the same settings, but fewer games than the training
    if isinstance(kwargs.get("ram_envs"), int):
        kwargs["ram_envs"] = min(kwargs["ram_envs"], n_envs)
    venv.close()
    return AtariVecEnv(spec, n_envs, seed=seed, render_mode=render_mode, **monitor_files, **kwargs)


def _check_unwrapped(spec: EnvSpec) -> None:
    """Raise a ValueError if there are other wrappers than those that the Zoo always applies."""
    own = ("Monitor", CopyFinalObservation.class_name())
    if others := [wrapper.name for wrapper in spec.additional_wrappers if wrapper.name not in own]:
        raise ValueError(f"native_atari does all of the preprocessing: remove env_wrapper ({', '.join(others)}).")


def _monitor_files(venv: VecEnv) -> dict[str, Any]:
    """Return the folder of the monitor files, None without any, and whether they replace those in the folder."""
    try:
        writer = venv.get_attr("results_writer")[0]
    except (EOFError, ConnectionError):
        # the process cannot send its open file, and has ended with an error
        raise ValueError(
            "native_atari cannot find the monitor files of SubprocVecEnv: leave out --vec-env subproc. The games are played "
            "by threads in any case."
        ) from None
    if writer is None:
        return {"monitor_dir": None}
    file = writer.file_handler
    return {"monitor_dir": os.path.dirname(file.name), "override_existing": not file.mode.startswith("a")}
