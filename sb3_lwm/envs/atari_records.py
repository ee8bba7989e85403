"""Scores of whole games, as SB3's Monitor keeps them."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.monitor import ResultsWriter


class GameRecords:
    """
    Counts scores and steps of the games under way, and writes a row to a file for each that ends.

    :param name: of the environment, for the head of the files
    :param monitor_dir: folder for one ``<number>.monitor.csv`` a game, overwriting those of an earlier run; None: no files
    :param columns: (n_envs,) names of the further columns of each file
    """

    def __init__(self, name: str, monitor_dir: str | Path | None, columns: list[tuple[str, ...]]) -> None:
        self._scores = np.zeros(len(columns), dtype=np.int64)
        self._lengths = np.zeros(len(columns), dtype=np.int64)
        self._start = time.time()
        self._writers: list[ResultsWriter] = []
        if monitor_dir is not None:
            header: dict[str, float | str] = {"t_start": self._start, "env_id": name}
            self._writers = [
                ResultsWriter(str(Path(monitor_dir) / f"{env}.monitor.csv"), header, extra)
                for env, extra in enumerate(columns)
            ]

    def restart(self) -> None:
        """Forget the games under way."""
        self._scores[:] = 0
        self._lengths[:] = 0

    def add(self, rewards: npt.NDArray[np.int32]) -> None:
        """
        :param rewards: (n_envs,) int32, of one step, not clipped
        """
        self._scores += rewards
        self._lengths += 1

    def finish(self, env: int, **extra: int) -> dict[str, float]:
        """
        Close the record of a game, and begin the next one.

        :param env: number of the game
        :param extra: values of the further columns
        :return: score ``r``, number of steps ``l``, seconds since the first game ``t``, and the further columns
        """
        record = {
            "r": float(self._scores[env]),
            "l": int(self._lengths[env]),
            "t": round(time.time() - self._start, 6),
            **extra,
        }
        if self._writers:
            self._writers[env].write_row(record)
        self._scores[env] = 0
        self._lengths[env] = 0
        return record

    def close(self) -> None:
        """Close the files; may be called again."""
        for writer in self._writers:
            writer.close()
