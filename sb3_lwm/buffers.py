"""Replay of sequences: one row for each observation, windows of consecutive rows of one environment."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lwm.type_aliases import RecurrentState, SequenceSamples, map_observations

VEC_NORMALIZE_REMEDY = (
    "VecNormalize changes its statistics while old observations and rewards wait in the replay, which sequences with a "
    "memory cannot follow. Remove it (in the Zoo: drop `normalize` from the hyperparameters): the world model "
    "standardises what it sees by itself, and gymnasium.wrappers.TransformObservation or TransformReward scale by constants."
)


class SequenceReplayBuffer(ReplayBuffer):
    """
    Replay buffer that stores every observation once and returns windows of consecutive rows, each with the same chance.

    A row holds an observation, the action taken there and the reward it brought. The last observation of an episode gets a
    row of its own (a *final* row), so that a time-out can bootstrap from it and the world model learns it; environments
    therefore fill their part of the buffer at their own pace. A window never crosses the place where the next row will be
    written; episodes may change inside it, ``episode_starts`` and ``finals`` say where.

    :param buffer_size: number of rows, shared equally by the environments
    :param observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these
    :param action_space: Discrete
    :param device: of the sampled tensors
    :param n_envs: number of parallel environments
    :param optimize_memory_usage: must be False: observations are never stored twice anyway
    :param handle_timeout_termination: if False, a time-out counts as a termination
    :param sequence_length: rows of a sampled window
    :raises ValueError: if a sequence does not fit, or ``optimize_memory_usage`` is set
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        sequence_length: int = 49,
    ) -> None:
        # ReplayBuffer itself would allocate a second array, for the next observations
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs)
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage=True: leave it at False, each observation is stored once as it is.")
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.sequence_length = sequence_length
        self.buffer_size = self._rows_per_env(buffer_size // n_envs)
        if self.buffer_size < sequence_length:
            raise ValueError(
                f"buffer_size={buffer_size} leaves {self.buffer_size} rows for each of {n_envs} environments, a sequence has "
                f"{sequence_length} (burn_in + unroll + n_steps): use buffer_size >= {n_envs * sequence_length}, or shorter sequences."
            )
        shape = (self.buffer_size, n_envs)
        self.observations: Any = self._allocate_observations(shape)
        self.actions = np.zeros(shape, dtype=np.int64)
        self.rewards = np.zeros(shape, dtype=np.float32)
        self.episode_starts = np.zeros(shape, dtype=bool)
        self.finals = np.zeros(shape, dtype=bool)
        self.terminations = np.zeros(shape, dtype=bool)
        self._envs = np.arange(n_envs)
        self.reset()

    def _rows_per_env(self, rows: int) -> int:
        return rows

    def _allocate_observations(self, shape: tuple[int, int]) -> Any:
        if isinstance(self.observation_space, spaces.Dict):
            return {
                key: np.zeros((*shape, *get_obs_shape(space)), dtype=space.dtype)  # type: ignore[misc]
                for key, space in self.observation_space.items()
            }
        return np.zeros((*shape, *self.obs_shape), dtype=self.observation_space.dtype)

    def reset(self) -> None:
        """Forget all rows."""
        super(ReplayBuffer, self).reset()
        # rows ever written by each environment; the next one goes to this number modulo buffer_size
        self.written = np.zeros(self.n_envs, dtype=np.int64)
        self._next_is_start = np.ones(self.n_envs, dtype=bool)

    def size(self) -> int:
        """:return: the number of rows that every environment has, at most ``buffer_size`` (which is per environment)"""
        return int(min(self.written.min(), self.buffer_size))

    def add(  # type: ignore[override]
        self,
        obs: Any,
        next_obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
        states: RecurrentState | None = None,
        next_states: RecurrentState | None = None,
    ) -> None:
        """
        Store one step of all environments.

        :param obs: (n_envs, *observation shape), what the actions answered
        :param next_obs: the same, what they led to; for an episode that ended, its final observation
        :param action: (n_envs,) or (n_envs, 1) int
        :param reward: (n_envs,) float, of the environment
        :param done: (n_envs,) bool
        :param infos: ``TimeLimit.truncated`` tells a time-out from a termination
        :param states: memory before ``obs``; kept by the prioritised buffer only
        :param next_states: memory after ``obs``, likewise
        """
        done = np.asarray(done, dtype=bool)
        rows = self._next_rows(self._envs, states)
        self._write_observations(rows, self._envs, obs)
        self.actions[rows, self._envs] = np.asarray(action).reshape(self.n_envs)
        self.rewards[rows, self._envs] = reward
        self.episode_starts[rows, self._envs] = self._next_is_start
        self.finals[rows, self._envs] = False
        self.terminations[rows, self._envs] = False
        self._next_is_start = done.copy()
        ended = np.flatnonzero(done)
        if len(ended) > 0:
            self._add_finals(ended, next_obs, infos, next_states)
        self.pos = int(self.written.max() % self.buffer_size)
        self.full = bool(self.written.min() >= self.buffer_size)

    def _add_finals(
        self, envs: np.ndarray, next_obs: Any, infos: list[dict[str, Any]], next_states: RecurrentState | None
    ) -> None:
        states = None if next_states is None else RecurrentState(*(part[envs] for part in next_states))
        rows = self._next_rows(envs, states)
        self._write_observations(rows, envs, map_observations(lambda array: np.asarray(array)[envs], next_obs))
        self.actions[rows, envs] = 0
        self.rewards[rows, envs] = 0.0
        self.episode_starts[rows, envs] = False
        self.finals[rows, envs] = True
        timeouts = [self.handle_timeout_termination and infos[env].get("TimeLimit.truncated", False) for env in envs]
        self.terminations[rows, envs] = np.logical_not(timeouts)

    def _next_rows(self, envs: np.ndarray, states: RecurrentState | None) -> np.ndarray:
        """
        Take the next row of each of these environments.

        :param envs: (k,) int
        :param states: memory before these rows, of shape (k, ...)
        :return: (k,) int
        """
        rows = self.written[envs] % self.buffer_size
        self.written[envs] += 1
        return rows

    def _write_observations(self, rows: np.ndarray, envs: np.ndarray, observations: Any) -> None:
        if isinstance(self.observations, dict):
            for key, storage in self.observations.items():
                storage[rows, envs] = np.reshape(observations[key], (len(envs), *storage.shape[2:]))
        else:
            self.observations[rows, envs] = np.reshape(observations, (len(envs), *self.observations.shape[2:]))

    def truncate_episodes(self) -> None:
        """
        Close the episodes that are under way, because their environments are about to be reset from outside: the last
        row of each becomes its final observation, as after a time-out.
        """
        envs = np.flatnonzero((self.written > 0) & ~self._next_is_start)
        rows = (self.written[envs] - 1) % self.buffer_size
        self.finals[rows, envs] = True
        self.rewards[rows, envs] = 0.0
        self.actions[rows, envs] = 0
        self._next_is_start[:] = True

    def can_sample(self, sequence_length: int | None = None) -> bool:
        """
        :param sequence_length: rows of a window, by default ``self.sequence_length``
        :return: whether there is at least one window of this length
        """
        return bool(min(self.written.max(), self.buffer_size) >= (sequence_length or self.sequence_length))

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        """
        Draw sequences for the agent.

        :param batch_size: number of sequences, ``B``
        :param env: must be None
        :return: ``sequence_length`` rows of ``B`` sequences
        :raises ValueError: if a VecNormalize is given, or there is no whole sequence yet
        """
        if env is not None:
            raise ValueError(VEC_NORMALIZE_REMEDY)
        return self.sample_windows(batch_size, self.sequence_length)

    def sample_windows(self, batch_size: int, sequence_length: int) -> SequenceSamples:
        """
        Draw windows uniformly: any environment, any start. Their memory starts from zero.

        :param batch_size: number of windows, ``B``
        :param sequence_length: rows of a window, ``T``
        :return: (T, B) rows
        :raises ValueError: if no environment has that many rows
        """
        stored = np.minimum(self.written, self.buffer_size)
        last_windows = np.cumsum(np.maximum(stored - sequence_length + 1, 0))
        if last_windows[-1] == 0:
            raise ValueError(
                f"No environment has {sequence_length} rows in the replay yet, the longest has {stored.max()}: "
                "raise learning_starts or use shorter sequences."
            )
        windows = np.random.randint(last_windows[-1], size=batch_size)
        envs = np.searchsorted(last_windows, windows, side="right")
        # counted back from the newest window of the environment, which ends at its newest row
        starts = self.written[envs] - sequence_length - (last_windows[envs] - 1 - windows)
        return self._gather(starts, envs, sequence_length)

    def _gather(self, starts: np.ndarray, envs: np.ndarray, sequence_length: int) -> SequenceSamples:
        """
        :param starts: (B,) int, first row of each window, modulo ``buffer_size``
        :param envs: (B,) int
        :param sequence_length: rows of a window, ``T``
        :return: (T, B) rows, memory from zero
        """
        rows = (starts + np.arange(sequence_length)[:, None]) % self.buffer_size
        # (T, B) places in the storage seen as one long list of rows: np.take on it is far faster than two index arrays
        places = rows * self.n_envs + envs
        episode_starts = self._take(self.episode_starts, places)
        episode_starts[0] = True
        n_batch = len(starts)
        return SequenceSamples(
            observations=map_observations(lambda storage: self._take(storage, places), self.observations),
            actions=self._take(self.actions, places),
            rewards=self._take(self.rewards, places),
            episode_starts=episode_starts,
            finals=self._take(self.finals, places),
            terminations=self._take(self.terminations, places),
            initial_states=None,
            importance_weights=th.ones(n_batch, device=self.device),
            sequence_ids=places[0],
            intrinsic_rewards=th.zeros(sequence_length, n_batch, device=self.device),
        )

    def _take(self, storage: np.ndarray, places: np.ndarray) -> th.Tensor:
        flat = storage.reshape(storage.shape[0] * storage.shape[1], -1)
        taken = np.take(flat, places.ravel(), axis=0).reshape(*places.shape, *storage.shape[2:])
        return th.as_tensor(taken, device=self.device)


class PrioritizedSequenceReplayBuffer(SequenceReplayBuffer):
    """
    Prioritised replay of whole sequences with stored memory (R2D2, section 2.3; prioritised replay, Schaul et al. 2016).

    Sequences begin every ``stride`` rows of each environment and overlap by the rest of their length. The memory that the
    actor had before the first row is stored with them. A sequence is drawn with probability proportional to
    ``p^priority_exponent``, once it has been given a priority.

    :param stride: rows between the starts of two sequences of one environment
    :param priority_exponent: 0 draws uniformly, 1 in proportion to the priorities
    :param importance_exponent: importance weights are ``(p^priority_exponent)^-importance_exponent`` divided by the
        largest of the batch; 0 switches them off
    :param args: as :class:`SequenceReplayBuffer`
    :param kwargs: as :class:`SequenceReplayBuffer`
    """

    # A sequence without any error stays in the draw, however rarely
    MIN_PRIORITY = 1e-6

    def __init__(
        self,
        *args: Any,
        stride: int = 32,
        priority_exponent: float = 0.9,
        importance_exponent: float = 0.6,
        **kwargs: Any,
    ) -> None:
        self.stride = stride
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        super().__init__(*args, **kwargs)

    def _rows_per_env(self, rows: int) -> int:
        # a whole number of strides, so that sequences keep their places when the buffer wraps around
        return rows // self.stride * self.stride

    def reset(self) -> None:
        super().reset()
        n_slots = self.buffer_size // self.stride
        # p^priority_exponent of the sequence that starts at row slot * stride; 0: not to be drawn
        self.weights = np.zeros((n_slots, self.n_envs))
        self.next_to_rate = np.zeros(self.n_envs, dtype=np.int64)
        self.states: RecurrentState | None = None

    def _next_rows(self, envs: np.ndarray, states: RecurrentState | None) -> np.ndarray:
        starting = np.flatnonzero(self.written[envs] % self.stride == 0)
        if len(starting) > 0:
            if states is None:
                raise ValueError("The prioritised replay stores the actor's memory: add(..., states=..., next_states=...).")
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

    def unrated_sequences(self) -> np.ndarray:
        """:return: (k,) int, ids of the complete sequences that have no priority yet"""
        oldest = -(-(self.written - self.buffer_size) // self.stride)
        first = np.maximum(self.next_to_rate, oldest)
        # numbers of sequences whose last row is there
        end = np.maximum((self.written - self.sequence_length) // self.stride + 1, first)
        self.next_to_rate = end
        counts = end - first
        envs = np.repeat(self._envs, counts)
        numbers = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return numbers % len(self.weights) * self.n_envs + envs

    def update_priorities(self, sequence_ids: np.ndarray, priorities: np.ndarray) -> None:
        """
        :param sequence_ids: (B,) int, as in the samples
        :param priorities: (B,) float, ``p``, not negative
        """
        self.weights.reshape(-1)[sequence_ids] = np.maximum(priorities, self.MIN_PRIORITY) ** self.priority_exponent

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        """
        Draw sequences by priority, with the memory stored at their start and with importance weights.

        :param batch_size: number of sequences, ``B``
        :param env: must be None
        :return: ``sequence_length`` rows of ``B`` sequences
        :raises ValueError: if a VecNormalize is given, or no sequence has a priority yet
        """
        if env is not None:
            raise ValueError(VEC_NORMALIZE_REMEDY)
        cumulative = np.cumsum(self.weights)
        if cumulative[-1] <= 0.0:
            raise ValueError("No sequence has a priority yet: rate unrated_sequences() with update_priorities() first.")
        # side="right" never finds a sequence of weight 0
        drawn = np.searchsorted(cumulative, np.random.rand(batch_size) * cumulative[-1], side="right")
        importance = self.weights.reshape(-1)[drawn] ** -self.importance_exponent
        importance_weights = th.as_tensor(importance / importance.max(), dtype=th.float32, device=self.device)
        return self.sequences(drawn)._replace(importance_weights=importance_weights)

    def sequences(self, sequence_ids: np.ndarray) -> SequenceSamples:
        """
        :param sequence_ids: (B,) int
        :return: these sequences, with the memory stored at their start and importance weights of 1
        """
        assert self.states is not None
        slots, envs = np.divmod(sequence_ids, self.n_envs)
        samples = self._gather(slots * self.stride, envs, self.sequence_length)
        starts = self._take(self.episode_starts, slots * self.stride * self.n_envs + envs)
        samples.episode_starts[0] = starts
        states = RecurrentState(*(self._take(part, sequence_ids) for part in self.states))
        return samples._replace(initial_states=states, sequence_ids=sequence_ids)
