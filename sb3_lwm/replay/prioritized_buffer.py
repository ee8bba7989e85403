"""Prioritised replay of whole sequences that begin with the actor's stored hidden state."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lwm.common.type_aliases import RecurrentState, SequenceSamples
from sb3_lwm.replay.observation_storage import to_device
from sb3_lwm.replay.sequence_buffer import BlockSeries, SequenceReplayBuffer


class PrioritizedSequenceReplayBuffer(SequenceReplayBuffer):
    """
    Prioritised replay of whole sequences with stored hidden states (R2D2, section 2.3; prioritised replay, Schaul et al.
    2016).

    Sequences begin every ``stride`` rows of each environment and overlap by the rest of their length. The hidden state that
    the actor had before the first row is stored with them. Once a sequence has a priority ``p``, it is drawn with a
    probability proportional to ``p^priority_exponent``.

    A stored hidden state is as old as its sequence: the networks, and the statistics of a VecNormalize, have changed since.

    :param stride: The number of rows between the starts of two sequences of one environment
    :param priority_exponent: The exponent of the priorities: 0 draws uniformly, 1 in proportion to the priorities
    :param importance_exponent: The exponent of the importance weights ``(p^priority_exponent)^-importance_exponent``, which
        are divided by the largest of the batch; 0 switches them off
    :param args: The positional arguments of :class:`SequenceReplayBuffer`
    :param kwargs: The keyword arguments of :class:`SequenceReplayBuffer`
    """

    # A sequence with a TD error of zero can still be drawn, if rarely
    MIN_PRIORITY = 1e-6

    COUNTERS = (*SequenceReplayBuffer.COUNTERS, "weights", "next_to_prioritize")

    def __init__(
        self,
        *args: Any,
        stride: int,
        priority_exponent: float,
        importance_exponent: float,
        **kwargs: Any,
    ) -> None:
        self.stride = stride
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        super().__init__(*args, **kwargs)

    @classmethod
    def rows_needed(cls, sequence_length: int, stride: int = 1) -> int:
        """
        :param sequence_length: The number of rows of a sequence
        :param stride: The number of rows between the starts of two sequences
        :return: The number of rows that each environment needs: new rows may have replaced all but one of the oldest stride
        """
        return -(-(sequence_length + stride - 1) // stride) * stride

    @classmethod
    def bytes_per_row(cls, state_bytes: int, stride: int = 1) -> float:
        """
        :param state_bytes: The number of bytes of one environment's hidden state
        :param stride: The number of rows between the starts of two sequences
        :return: The number of bytes that a row takes beside its observation: one hidden state and one weight in each stride
        """
        return super().bytes_per_row(state_bytes, stride) + (state_bytes + np.dtype(np.float64).itemsize) / stride

    def reset(self) -> None:
        super().reset()
        n_slots = self.buffer_size // self.stride
        # p^priority_exponent of the sequence that starts at row slot * stride; 0: never drawn
        self.weights = np.zeros((n_slots, self.n_envs))
        self.next_to_prioritize = np.zeros(self.n_envs, dtype=np.int64)
        self.states: RecurrentState | None = None
        # ids, and priorities that are still on a GPU; reading them back at once would make the program wait
        self._pending_priorities: list[tuple[np.ndarray, th.Tensor]] = []

    def _next_rows(self, envs: np.ndarray, states: RecurrentState | None) -> np.ndarray:
        # first, because a new row may give the id of a sequence to another one
        self._store_priorities()
        starting = np.flatnonzero(self.written[envs] % self.stride == 0)
        if len(starting) > 0:
            if states is None:
                raise ValueError(
                    "The prioritised replay stores the actor's memory: add(..., states=..., next_states=...), or "
                    "LWMDQN.add_episode, which computes it."
                )
            slots = self.written[envs[starting]] // self.stride % len(self.weights)
            self.weights[slots, envs[starting]] = 0.0
            self._store_states(slots, envs[starting], RecurrentState(*(part[starting] for part in states)))
        return super()._next_rows(envs, states)

    def _store_states(self, slots: np.ndarray, envs: np.ndarray, states: RecurrentState) -> None:
        parts = [np.asarray(th.as_tensor(part).cpu()) for part in states]
        if self.states is None:
            self.states = RecurrentState(*(np.zeros((*self.weights.shape, *part.shape[1:]), part.dtype) for part in parts))
        for storage, part in zip(self.states, parts, strict=True):
            storage[slots, envs] = part

    def _without_priority(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the first sequence without a priority and of the first incomplete one, (n_envs,) int each."""
        oldest = -(-(self.written - self.buffer_size) // self.stride)
        first = np.maximum(self.next_to_prioritize, oldest)
        # a sequence is complete once its last row has been written
        return first, np.maximum((self.written - self.sequence_length) // self.stride + 1, first)

    def take_without_priority(self, n_waiting: int) -> np.ndarray:
        """
        Return the complete sequences that have no priority yet, each of them once. They are collected first, since a GPU
        computes a batch hardly slower than a single sequence.

        :param n_waiting: The number of sequences to collect, unless no sequence has a priority yet
        :return: The ids of the sequences, (k,) int
        """
        first, end = self._without_priority()
        counts = end - first
        if counts.sum() < n_waiting and self.weights.any():
            return np.empty(0, dtype=np.int64)
        self.next_to_prioritize = end
        envs = np.repeat(self._envs, counts)
        numbers = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return numbers % len(self.weights) * self.n_envs + envs

    def update_priorities(self, sequence_ids: np.ndarray, priorities: th.Tensor) -> None:
        """
        Set the priorities of sampled sequences. Those on a GPU are read back before the next ``sample`` or ``add``.

        :param sequence_ids: The ids of the samples, (B,) int
        :param priorities: The priorities ``p``, (B,) float, not negative
        :raises ValueError: If a priority on the CPU is not finite; one on a GPU is refused when it is read back
        """
        self._pending_priorities.append((sequence_ids, priorities))
        if priorities.device.type == "cpu":
            self._store_priorities()

    def _store_priorities(self) -> None:
        """Turn the pending priorities into weights."""
        pending, self._pending_priorities = self._pending_priorities, []
        for sequence_ids, tensor in pending:
            priorities = tensor.cpu().numpy()
            if not np.isfinite(priorities).all():
                raise ValueError(
                    f"A sequence has a TD error that is not finite (priorities {priorities}): lower learning_rate."
                )
            self.weights.reshape(-1)[sequence_ids] = np.maximum(priorities, self.MIN_PRIORITY) ** self.priority_exponent

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        """
        Draw sequences by priority, with the hidden state stored at their start and with importance weights.

        :param batch_size: The number of sequences, ``B``
        :param env: The VecNormalize whose present statistics normalise observations and rewards
        :return: The ``sequence_length`` rows of ``B`` sequences
        :raises ValueError: If no sequence has a priority yet
        """
        self._store_priorities()
        cumulative = np.cumsum(self.weights)
        if cumulative[-1] <= 0.0:
            raise ValueError(
                "No sequence has a priority yet: give those of take_without_priority() to update_priorities() first."
            )
        # side="right" never finds a sequence of weight 0
        drawn = np.searchsorted(cumulative, self.rng.random(batch_size) * cumulative[-1], side="right")
        importance = self.weights.reshape(-1)[drawn] ** -self.importance_exponent
        importance_weights = to_device((importance / importance.max()).astype(np.float32), self.device)
        return self.sequences(drawn, env)._replace(importance_weights=importance_weights)

    def sequences(self, sequence_ids: np.ndarray, env: VecNormalize | None = None) -> SequenceSamples:
        """
        :param sequence_ids: The ids of the sequences, (B,) int
        :param env: The VecNormalize whose present statistics normalise observations and rewards
        :return: The sequences, with the hidden state stored at their start and importance weights of 1
        """
        assert self.states is not None
        slots, envs = np.divmod(sequence_ids, self.n_envs)
        samples = self._gather(slots * self.stride, envs, self.sequence_length, env)
        starts = self._take(self.episode_starts, slots * self.stride * self.n_envs + envs)
        samples.episode_starts[0] = starts
        states = RecurrentState(*(self._take(part, sequence_ids) for part in self.states))
        return samples._replace(initial_states=states, sequence_ids=sequence_ids)

    def take_settings(self, other: SequenceReplayBuffer) -> None:
        """
        Take over the settings that can be changed when the buffer has rows already.

        :param other: A buffer of the same class with the same stride
        :raises ValueError: If the priorities of the rows are not known, because their exponent was 0
        """
        assert isinstance(other, PrioritizedSequenceReplayBuffer)
        super().take_settings(other)
        self._store_priorities()
        if self.priority_exponent != other.priority_exponent:
            if self.priority_exponent == 0.0:
                raise ValueError(
                    f"priority_exponent={other.priority_exponent}: the replay buffer was filled with priority_exponent=0, "
                    "which keeps no priorities. Load the agent with priority_exponent=0."
                )
            has_priority = self.weights > 0.0
            self.weights[has_priority] **= other.priority_exponent / self.priority_exponent
        self.priority_exponent = other.priority_exponent
        self.importance_exponent = other.importance_exponent

    def __getstate__(self) -> dict[str, Any]:
        # tensors on a GPU could not be unpickled on a machine without one
        self._store_priorities()
        return vars(self)

    # --- Training states ---

    def get_training_state(self) -> dict[str, Any]:
        self._store_priorities()
        return super().get_training_state()

    def block_series(self) -> dict[str, BlockSeries]:
        series = super().block_series()
        if self.states is not None:
            series["memories"] = BlockSeries(self.stride, sum(part[0].nbytes for part in self.states))
        return series

    def read_block(self, series: str, start: int, stop: int) -> list[np.ndarray]:
        if series != "memories":
            return super().read_block(series, start, stop)
        assert self.states is not None
        return [part[start:stop] for part in self.states]

    def write_block(self, series: str, start: int, stop: int, arrays: list[np.ndarray]) -> None:
        if series != "memories":
            return super().write_block(series, start, stop, arrays)
        if self.states is None:
            shape = self.weights.shape
            self.states = RecurrentState(*(np.zeros((*shape, *array.shape[2:]), array.dtype) for array in arrays))
        for part, array in zip(self.states, arrays, strict=True):
            part[start:stop] = array
