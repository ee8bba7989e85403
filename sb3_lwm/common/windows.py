"""Windows of consecutive rows, and the stretches of rows that may contain them."""

from typing import NamedTuple

import numpy as np


class Stretches(NamedTuple):
    """Stretches of consecutive rows of one environment each. A window lies inside one of them."""

    firsts: np.ndarray  # (K,) int64, the first row of each stretch
    envs: np.ndarray  # (K,) int64, the environment of each stretch
    lengths: np.ndarray  # (K,) int64, the number of rows of each stretch

    def n_windows(self, sequence_length: int) -> int:
        """
        :param sequence_length: The number of rows of a window
        :return: The number of all windows
        """
        return int(self._counts(sequence_length).sum())

    def windows(self, numbers: np.ndarray, sequence_length: int) -> tuple[np.ndarray, np.ndarray]:
        """
        :param numbers: The numbers of the windows, (B,) int, from 0 to :meth:`n_windows` - 1
        :param sequence_length: The number of rows of a window
        :return: The first row of each window and its environment, (B,) int64 each
        """
        counts = self._counts(sequence_length)
        ends = np.cumsum(counts)
        stretches = np.searchsorted(ends, numbers, side="right")
        return self.firsts[stretches] + numbers - (ends - counts)[stretches], self.envs[stretches]

    def _counts(self, sequence_length: int) -> np.ndarray:
        """Return the number of windows in each stretch, (K,) int64."""
        return np.maximum(self.lengths - sequence_length + 1, 0)


def episode_stretches(episode_starts: np.ndarray) -> Stretches:
    """
    :param episode_starts: Whether an episode begins with each row, (T, n_envs) bool, in the order of time
    :return: The stretches of the episodes, with rows from 0 to T - 1
    """
    begins = np.array(episode_starts.T, dtype=bool, order="C")
    begins[:, :1] = True
    places = np.flatnonzero(begins)
    # the first row of an environment always starts a stretch, so that a stretch never crosses two environments
    envs, firsts = np.divmod(places, max(len(episode_starts), 1))
    return Stretches(firsts, envs, np.diff(places, append=begins.size))
