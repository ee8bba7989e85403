"""The coverage of Atari games in the logs of any algorithm."""

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lwm.envs.atari.vec_env import AtariVecEnv


def record_coverage(model: BaseAlgorithm) -> None:
    """
    Record the coverage of the games of an :class:`~sb3_lwm.AtariVecEnv` for the next dump of the logger: the mean of the
    last games (``rollout/rooms_mean``, ``rollout/cells_mean``, ``rollout/keys_mean``, ``rollout/doors_mean``) and the number
    in the whole training (``rollout/rooms_total``, ``rollout/cells_total``, ``rollout/keys_total``, ``rollout/doors_total``).
    Nothing is recorded for other environments, for games without a shadow (``ram_envs``), or for unknown games.

    :param model: The algorithm, with its environments
    """
    wrapped = model.get_env()
    env = None if wrapped is None else wrapped.unwrapped
    if not isinstance(env, AtariVecEnv) or not env.coverage.cells:
        return
    records = model.ep_info_buffer or ()
    for name, count in env.coverage.of_training().items():
        model.logger.record(f"rollout/{name}_total", count)
        if counts := [record[name] for record in records if name in record]:
            model.logger.record(f"rollout/{name}_mean", float(np.mean(counts)))


class CoverageCallback(BaseCallback):
    """Logs the coverage of the games of an :class:`~sb3_lwm.AtariVecEnv`, see :func:`record_coverage`."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        record_coverage(self.model)
