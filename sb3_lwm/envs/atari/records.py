"""Scores of whole games, in the form of SB3's Monitor."""

import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.monitor import ResultsWriter


def cut_monitor_file(writer: ResultsWriter, n_episodes: int) -> None:
    """
    Remove the episodes that were written after a training state from which a run continues.

    :param writer: The writer of a ``monitor.csv``, opened to continue the file
    :param n_episodes: The number of episodes to keep
    """
    writer.file_handler.flush()
    path = Path(writer.file_handler.name)
    # the file has two lines before the first episode
    kept = path.read_bytes().splitlines(keepends=True)[: 2 + n_episodes]
    os.truncate(path, sum(map(len, kept)))


class GameRecords:
    """
    Counts the scores and steps of the present games, and writes a row to a file for each game that ends.

    :param name: The name of the environment, for the header of the files
    :param monitor_dir: The folder of the files, one ``<number>.monitor.csv`` per game; None for no files
    :param columns: The names of the additional columns of each file, (n_envs,)
    :param override_existing: Whether files of an earlier run are overwritten; if False they are continued
    """

    def __init__(
        self, name: str, monitor_dir: str | Path | None, columns: list[tuple[str, ...]], override_existing: bool = True
    ) -> None:
        self._scores = np.zeros(len(columns), dtype=np.int64)
        self._lengths = np.zeros(len(columns), dtype=np.int64)
        # the number of games that have ended
        self._finished = np.zeros(len(columns), dtype=np.int64)
        self._start = time.time()
        self._writers: list[ResultsWriter] = []
        if monitor_dir is not None:
            header: dict[str, float | str] = {"t_start": self._start, "env_id": name}
            self._writers = [
                ResultsWriter(str(Path(monitor_dir) / f"{env}.monitor.csv"), header, extra, override_existing)
                for env, extra in enumerate(columns)
            ]

    def restart(self) -> None:
        """Reset the records of the present games."""
        self._scores[:] = 0
        self._lengths[:] = 0

    def add(self, rewards: npt.NDArray[np.int32]) -> None:
        """
        :param rewards: The unclipped rewards of one step, (n_envs,) int32
        """
        self._scores += rewards
        self._lengths += 1

    def finish(self, env: int, **extra: int) -> dict[str, float]:
        """
        Close the record of a game, and begin the next one.

        :param env: The number of the game
        :param extra: The values of the additional columns
        :return: The score ``r``, the number of steps ``l``, the seconds since the first game ``t``, and the additional columns
        """
        record = {
            "r": float(self._scores[env]),
            "l": int(self._lengths[env]),
            "t": round(time.time() - self._start, 6),
            **extra,
        }
        if self._writers:
            self._writers[env].write_row(record)
        self._finished[env] += 1
        self._scores[env] = 0
        self._lengths[env] = 0
        return record

    def get_state(self) -> dict[str, npt.NDArray[np.int64]]:
        """:return: The scores and lengths of the present games, and the numbers of games that have ended"""
        return {"scores": self._scores.copy(), "lengths": self._lengths.copy(), "finished": self._finished.copy()}

    def set_state(self, state: dict[str, npt.NDArray[np.int64]]) -> None:
        """:param state: The result of :meth:`get_state`; games that have ended after it are removed from the files"""
        self._scores, self._lengths = state["scores"].copy(), state["lengths"].copy()
        self._finished = state["finished"].copy()
        for writer, finished in zip(self._writers, self._finished, strict=False):
            cut_monitor_file(writer, int(finished))

    def close(self) -> None:
        """Close the files; may be called again."""
        for writer in self._writers:
            writer.close()
