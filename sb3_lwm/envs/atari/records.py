"""Scores of whole games, as SB3's Monitor keeps them."""

import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.monitor import ResultsWriter


def cut_monitor_file(writer: ResultsWriter, n_episodes: int) -> None:
    """
    Cut off what was written after a training state that a run goes on from.

    :param writer: of a ``monitor.csv``, opened to go on with it
    :param n_episodes: that stay
    """
    writer.file_handler.flush()
    path = Path(writer.file_handler.name)
    # two lines before the first episode
    kept = path.read_bytes().splitlines(keepends=True)[: 2 + n_episodes]
    os.truncate(path, sum(map(len, kept)))


class GameRecords:
    """
    Counts scores and steps of the games under way, and writes a row to a file for each that ends.

    :param name: of the environment, for the head of the files
    :param monitor_dir: folder for one ``<number>.monitor.csv`` a game; None: no files
    :param columns: (n_envs,) names of the further columns of each file
    :param override_existing: whether files of an earlier run are written over, or gone on with
    """

    def __init__(
        self, name: str, monitor_dir: str | Path | None, columns: list[tuple[str, ...]], override_existing: bool = True
    ) -> None:
        self._scores = np.zeros(len(columns), dtype=np.int64)
        self._lengths = np.zeros(len(columns), dtype=np.int64)
        # games that have ended
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
        self._finished[env] += 1
        self._scores[env] = 0
        self._lengths[env] = 0
        return record

    def get_state(self) -> dict[str, npt.NDArray[np.int64]]:
        """:return: scores and lengths of the games under way, and how many have ended"""
        return {"scores": self._scores.copy(), "lengths": self._lengths.copy(), "finished": self._finished.copy()}

    def set_state(self, state: dict[str, npt.NDArray[np.int64]]) -> None:
        """:param state: from :meth:`get_state`; games that have ended after it are cut off the files"""
        self._scores, self._lengths = state["scores"].copy(), state["lengths"].copy()
        self._finished = state["finished"].copy()
        for writer, finished in zip(self._writers, self._finished, strict=False):
            cut_monitor_file(writer, int(finished))

    def close(self) -> None:
        """Close the files; may be called again."""
        for writer in self._writers:
            writer.close()
