"""Replay of sequences: one row for each observation, and windows of consecutive rows of one environment."""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lwm.common.type_aliases import RecurrentState, SequenceSamples, map_observations
from sb3_lwm.common.windows import Stretches, episode_stretches
from sb3_lwm.replay.observation_storage import ObservationStorage, gather, make_storage, to_device


class BlockSeries(NamedTuple):
    """Data of a replay buffer that a training state stores in separate files, one block of rows at a time."""

    stride: int  # number of rows of the buffer for each entry of the series
    entry_bytes: int  # number of bytes of one entry of all environments


class SequenceReplayBuffer(ReplayBuffer):
    """
    Replay buffer that stores every observation once and samples windows of consecutive rows uniformly.

    A row holds an observation, the action taken there and the reward of that action, none of them normalised: a VecNormalize
    normalises rows with its present statistics when they are sampled. The last observation of an episode gets a row of its
    own (a *final* row), so that a time-out can bootstrap from it and the world model learns it; environments therefore fill
    their parts of the buffer at different speeds. A window never crosses the place where the next row will be written. It
    may contain the end of an episode, which ``finals`` marks, and the start of the next one, which ``episode_starts`` marks.

    :param buffer_size: The number of rows, shared equally by the environments
    :param observation_space: The observation space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these
    :param action_space: The action space, Discrete
    :param device: The device of the sampled tensors
    :param n_envs: The number of parallel environments
    :param optimize_memory_usage: Not used, since observations are never stored twice
    :param handle_timeout_termination: Whether time-outs bootstrap; if False, a time-out counts as a termination
    :param sequence_length: The number of rows of a sampled window
    :param storage_device: The device that holds the observations, ``"cpu"`` (host memory) or ``"cuda"``; all other parts of
        the rows are in host memory
    :param compression: The lossless compression of the observations in host memory: None or ``"zstd"``
    :raises ValueError: If a sequence does not fit, or the storage does not exist
    :raises ImportError: If the package of the compression is missing
    """

    ROW_BYTES = 8 + 4 + 3  # action, reward, three flags
    # number of rows between two places where a sequence may begin
    stride = 1
    # arrays that a training state holds beside the observations
    ROW_ARRAYS = ("actions", "rewards", "episode_starts", "finals", "terminations")
    COUNTERS: tuple[str, ...] = ("written", "_next_is_start", "pos", "full")

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        sequence_length: int,
        storage_device: th.device | str = "cpu",
        compression: str | None = None,
    ) -> None:
        # ReplayBuffer itself would allocate a second array, for the next observations
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs)
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        self.sequence_length = sequence_length
        # a whole number of strides, so that sequences keep their places when the buffer wraps around
        self.buffer_size = buffer_size // n_envs // self.stride * self.stride
        needed = self.rows_needed(sequence_length, self.stride)
        if self.buffer_size < needed:
            raise ValueError(
                f"buffer_size={buffer_size} leaves {self.buffer_size} rows for each of {n_envs} environments, a sequence has "
                f"{sequence_length} (burn_in + unroll + n_steps): use buffer_size >= {n_envs * needed}, or shorter sequences."
            )
        # one storage, or one for each key of a Dict space
        self.observations: Any = map_observations(
            lambda space: make_storage(self.buffer_size, n_envs, space, storage_device, compression),
            dict(observation_space.items()) if isinstance(observation_space, spaces.Dict) else observation_space,
        )
        shape = (self.buffer_size, n_envs)
        self.actions = np.zeros(shape, dtype=np.int64)
        self.rewards = np.zeros(shape, dtype=np.float32)
        self.episode_starts = np.zeros(shape, dtype=bool)
        self.finals = np.zeros(shape, dtype=bool)
        self.terminations = np.zeros(shape, dtype=bool)
        self._envs = np.arange(n_envs)
        # an agent replaces it with its own generator
        self.rng = np.random.default_rng()
        self.reset()

    @classmethod
    def rows_needed(cls, sequence_length: int, stride: int = 1) -> int:
        """
        :param sequence_length: The number of rows of a sequence
        :param stride: The number of rows between the starts of two sequences; not used, since windows may begin anywhere
        :return: The number of rows that each environment needs to hold a whole sequence at any time, once it has one
        """
        return sequence_length

    @classmethod
    def bytes_per_row(cls, state_bytes: int, stride: int = 1) -> float:
        """
        :param state_bytes: The number of bytes of one environment's hidden state
        :param stride: The number of rows between the starts of two sequences
        :return: The number of bytes that a row takes beside its observation
        """
        return cls.ROW_BYTES

    def reset(self) -> None:
        """Forget all rows."""
        super(ReplayBuffer, self).reset()
        # number of rows that each environment has ever written; the place of the next one is this number modulo buffer_size
        self.written = np.zeros(self.n_envs, dtype=np.int64)
        self._next_is_start = np.ones(self.n_envs, dtype=bool)

    def size(self) -> int:
        """:return: The number of rows that every environment has, at most ``buffer_size`` (which is per environment)"""
        return int(min(self.written.min(), self.buffer_size))

    def add(
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
        Store one transition of each environment.

        :param obs: The observations before the actions, (n_envs, *observation shape)
        :param next_obs: The observations after the actions, of the same shape; at the end of an episode the final one
        :param action: The actions, (n_envs,) or (n_envs, 1) int
        :param reward: The rewards of the environments, (n_envs,) float
        :param done: Whether each episode has ended, (n_envs,) bool
        :param infos: The infos of the environments; ``TimeLimit.truncated`` marks time-outs
        :param states: The hidden states before ``obs``; only the prioritised buffer stores them
        :param next_states: The hidden states after ``obs``; only the prioritised buffer stores them
        """
        done = np.asarray(done, dtype=bool)
        self._write(self._envs, obs, np.asarray(action).reshape(self.n_envs), reward, self._next_is_start, states)
        self._next_is_start = done.copy()
        ended = np.flatnonzero(done)
        if len(ended) > 0:
            timeouts = [self.handle_timeout_termination and infos[env].get("TimeLimit.truncated", False) for env in ended]
            finals = map_observations(lambda array: np.asarray(array)[ended], next_obs)
            final_states = None if next_states is None else RecurrentState(*(part[ended] for part in next_states))
            self._write_finals(ended, finals, np.logical_not(timeouts), final_states)
        self._count_rows()

    def add_episode(
        self, observations: Any, actions: np.ndarray, rewards: np.ndarray, terminated: bool, states: list[RecurrentState]
    ) -> None:
        """
        Store a whole episode among the rows of the environment that has the fewest.

        :param observations: The observations, an array (T + 1, *observation shape) or a dictionary of arrays
        :param actions: The actions, (T,) int
        :param rewards: The rewards, (T,) float
        :param terminated: Whether the episode ended by a termination; if False, by a time-out
        :param states: The hidden state before each observation, of one environment; only the prioritised buffer stores them
        :raises ValueError: If an episode of any environment has not ended
        """
        if not self._next_is_start.all():
            raise ValueError("An episode is under way: close it first with truncate_episodes, and reset the environments.")
        env = np.array([np.argmin(self.written)])
        rows = [map_observations(lambda part, row=row: part[row : row + 1], observations) for row in range(len(states))]
        for row, action in enumerate(actions):
            self._write(env, rows[row], action, rewards[row], row == 0, states[row])
        self._write_finals(env, rows[-1], terminated or not self.handle_timeout_termination, states[-1])
        self._count_rows()

    def _write(
        self, envs: np.ndarray, observations: Any, actions: Any, rewards: Any, starts: Any, states: RecurrentState | None
    ) -> None:
        """Write the next row of each of these environments."""
        rows = self._next_rows(envs, states)
        self._write_observations(rows, envs, observations)
        self.actions[rows, envs] = actions
        self.rewards[rows, envs] = rewards
        self.episode_starts[rows, envs] = starts
        self.finals[rows, envs] = False
        self.terminations[rows, envs] = False

    def _write_finals(self, envs: np.ndarray, observations: Any, terminations: Any, states: RecurrentState | None) -> None:
        """Write the final row of each of these environments."""
        rows = self._next_rows(envs, states)
        self._write_observations(rows, envs, observations)
        self.actions[rows, envs] = 0
        self.rewards[rows, envs] = 0.0
        self.episode_starts[rows, envs] = False
        self.finals[rows, envs] = True
        self.terminations[rows, envs] = terminations

    def _count_rows(self) -> None:
        """Update the attributes that SB3's replay buffers have."""
        self.pos = int(self.written.max() % self.buffer_size)
        self.full = bool(self.written.min() >= self.buffer_size)

    def _next_rows(self, envs: np.ndarray, states: RecurrentState | None) -> np.ndarray:
        """Take the next row of each of these environments."""
        rows = self.written[envs] % self.buffer_size
        self.written[envs] += 1
        return rows

    def _write_observations(self, rows: np.ndarray, envs: np.ndarray, observations: Any) -> None:
        if isinstance(self.observations, dict):
            for key, storage in self.observations.items():
                storage.write(rows, envs, observations[key])
        else:
            self.observations.write(rows, envs, observations)

    def truncate_episodes(self) -> bool:
        """
        Close the episodes that have not ended, before their environments are reset from outside: the last row of each
        becomes its final row, as after a time-out.

        :return: Whether there were such episodes
        """
        envs = np.flatnonzero(~self._next_is_start)
        rows = (self.written[envs] - 1) % self.buffer_size
        self.finals[rows, envs] = True
        self.rewards[rows, envs] = 0.0
        self.actions[rows, envs] = 0
        self._next_is_start[:] = True
        return len(envs) > 0

    @property
    def longest_window(self) -> int:
        """:return: The number of rows of the longest window in the buffer"""
        return int(min(self.written.max(), self.buffer_size))

    def fitted_batch_size(self, batch_size: int, sequence_length: int) -> int:
        """
        :param batch_size: The requested number of windows
        :param sequence_length: The number of rows of a window
        :return: The number of windows, reduced if a batch would have more rows than the buffer; at least 2, which batch
            normalisation needs
        """
        rows = int(np.minimum(self.written, self.buffer_size).sum())
        return min(batch_size, max(rows // sequence_length, 2))

    def can_sample(self, sequence_length: int | None = None, within_episode: bool = False) -> bool:
        """
        :param sequence_length: The number of rows of a window, by default ``self.sequence_length``
        :param within_episode: Whether the window must lie inside one episode
        :return: Whether there is at least one window of this length
        """
        return self._stretches(within_episode).n_windows(sequence_length or self.sequence_length) > 0

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        """
        Draw sequences for the agent.

        :param batch_size: The number of sequences, ``B``
        :param env: The VecNormalize whose present statistics normalise observations and rewards
        :return: The ``sequence_length`` rows of ``B`` sequences
        :raises ValueError: If there is no whole sequence yet
        """
        return self.sample_windows(batch_size, self.sequence_length, env=env)

    def sample_windows(
        self, batch_size: int, sequence_length: int, within_episode: bool = False, env: VecNormalize | None = None
    ) -> SequenceSamples:
        """
        Draw windows uniformly from all environments and starts. Their hidden states start from zero.

        :param batch_size: The number of windows, ``B``
        :param sequence_length: The number of rows of a window, ``T``
        :param within_episode: Whether only windows that lie inside one episode are drawn
        :param env: The VecNormalize whose present statistics normalise observations and rewards
        :return: The (T, B) rows
        :raises ValueError: If no environment, or with ``within_episode`` no episode, has that many rows; see
            :meth:`can_sample`
        """
        return self._gather(*self._draw_windows(batch_size, sequence_length, within_episode), sequence_length, env)

    def newest_windows(self, sequence_length: int, n_envs: int, env: VecNormalize | None = None) -> SequenceSamples:
        """
        :param sequence_length: The number of rows of a window, ``T``; at most :meth:`size`
        :param n_envs: The number of environments, ``B``
        :param env: The VecNormalize whose present statistics normalise observations and rewards
        :return: The newest (T, B) rows of the first environments, without any random draw
        """
        return self._gather(self.written[:n_envs] - sequence_length, self._envs[:n_envs], sequence_length, env)

    def _draw_windows(self, batch_size: int, sequence_length: int, within_episode: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the first row of each window, modulo ``buffer_size``, and its environment, both (B,) int."""
        stretches = self._stretches(within_episode)
        n_windows = stretches.n_windows(sequence_length)
        if n_windows == 0:
            whose, remedy = ("episode", "") if within_episode else ("environment", "raise learning_starts or ")
            raise ValueError(
                f"No {whose} has {sequence_length} rows in the replay yet, the longest has "
                f"{stretches.lengths.max(initial=0)}: {remedy}use shorter sequences."
            )
        return stretches.windows(self.rng.integers(n_windows, size=batch_size), sequence_length)

    def _stretches(self, within_episode: bool) -> Stretches:
        """Return the stored rows of each environment, or of each episode, oldest first, numbered as by ``written``."""
        stored = np.minimum(self.written, self.buffer_size)
        oldest = self.written - stored
        if not within_episode:
            return Stretches(oldest, self._envs, stored)
        parts = []
        for env in self._envs:
            first = oldest[env] % self.buffer_size
            starts = np.concatenate((self.episode_starts[first:, env], self.episode_starts[:first, env]))[: stored[env]]
            part = episode_stretches(starts[:, None])
            parts.append(Stretches(part.firsts + oldest[env], part.envs + env, part.lengths))
        return Stretches(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _gather(self, starts: np.ndarray, envs: np.ndarray, sequence_length: int, env: VecNormalize | None) -> SequenceSamples:
        """Return (T, B) rows of windows by their first rows, modulo ``buffer_size``, and environments, both (B,) int."""
        places = (starts + np.arange(sequence_length)[:, None]) % self.buffer_size * self.n_envs + envs
        episode_starts = self._take(self.episode_starts, places)
        episode_starts[0] = True
        observations = map_observations(lambda storage: storage.take(places, self.device), self.observations)
        rewards = self._take(self.rewards, places)
        if env is not None:
            arrays = env.normalize_obs(map_observations(lambda part: part.cpu().numpy(), observations))
            observations = map_observations(lambda part: to_device(part, self.device), arrays)
            rewards = to_device(env.normalize_reward(rewards.cpu().numpy()), self.device)
        return SequenceSamples(
            observations=observations,
            actions=self._take(self.actions, places),
            rewards=rewards,
            episode_starts=episode_starts,
            finals=self._take(self.finals, places),
            terminations=self._take(self.terminations, places),
            initial_states=None,
            importance_weights=th.ones(len(envs), device=self.device),
            sequence_ids=places[0],
            intrinsic_rewards=th.zeros(sequence_length, len(envs), device=self.device),
        )

    @property
    def total_size(self) -> int:
        """:return: The number of rows of all environments"""
        return self.buffer_size * self.n_envs

    @property
    def storage_device(self) -> str:
        """:return: The type of the device that holds the observations"""
        return self.storages[0].storage_device

    @property
    def compression(self) -> str | None:
        """:return: The compression of the observations"""
        return self.storages[0].compression

    def take_settings(self, other: "SequenceReplayBuffer") -> None:
        """
        Take over the settings that can be changed when the buffer has rows already.

        :param other: A buffer of the same class with the same stride
        """
        self.sequence_length = other.sequence_length
        self.handle_timeout_termination = other.handle_timeout_termination

    # --- Training states ---

    @property
    def storages(self) -> list[ObservationStorage]:
        """:return: The storages of the observations, one for each key of a Dict space"""
        return list(self.observations.values()) if isinstance(self.observations, dict) else [self.observations]

    def get_training_state(self) -> dict[str, Any]:
        """:return: The sizes, which a restored buffer must share, and all data that :meth:`read_block` does not return"""
        return {
            "class": type(self).__qualname__,
            "sizes": [self.buffer_size, self.n_envs, self.sequence_length, self.stride],
            "counters": {name: getattr(self, name) for name in self.COUNTERS},
            "pending": [storage.get_training_state() for storage in self.storages],
        }

    def set_training_state(self, state: dict[str, Any]) -> None:
        """
        Restore the buffer except for the blocks of its rows.

        :param state: The result of :meth:`get_training_state`
        :raises ValueError: If the state is that of a buffer of another class or with other sizes
        """
        own = self.get_training_state()
        for name in ("class", "sizes"):
            if own[name] != state[name]:
                raise ValueError(
                    f"The replay of the training state does not fit this agent: its {name} is {state[name]}, the agent's "
                    f"{own[name]} (rows, environments, rows of a sequence, rows between two sequences). Use the arguments of "
                    "that training."
                )
        for name, value in state["counters"].items():
            setattr(self, name, value)
        for storage, part in zip(self.storages, state["pending"], strict=True):
            storage.set_training_state(part)

    def block_series(self) -> dict[str, BlockSeries]:
        """:return: The series that :meth:`read_block` reads, by name"""
        flags = sum(getattr(self, name)[0].nbytes for name in self.ROW_ARRAYS)
        return {"rows": BlockSeries(1, flags + sum(storage.row_bytes for storage in self.storages))}

    def read_block(self, series: str, start: int, stop: int) -> list[np.ndarray]:
        """
        :param series: A key of :meth:`block_series`
        :param start: The first entry, a multiple of ``BLOCK_ROWS``
        :param stop: The entry after the last one
        :return: The entries of all environments, in the form that :meth:`write_block` takes
        """
        arrays = [getattr(self, name)[start:stop] for name in self.ROW_ARRAYS]
        return arrays + [array for storage in self.storages for array in storage.read_rows(start, stop)]

    def write_block(self, series: str, start: int, stop: int, arrays: list[np.ndarray]) -> None:
        """
        :param series: A key of :meth:`block_series`
        :param start: The first entry
        :param stop: The entry after the last one
        :param arrays: The result of :meth:`read_block`
        """
        for name, array in zip(self.ROW_ARRAYS, arrays, strict=False):
            getattr(self, name)[start:stop] = array
        observations = arrays[len(self.ROW_ARRAYS) :]
        each = len(observations) // len(self.storages)
        for index, storage in enumerate(self.storages):
            storage.write_rows(start, stop, observations[index * each : (index + 1) * each])

    def _take(self, array: np.ndarray, places: np.ndarray) -> th.Tensor:
        return gather(array, places, self.device)
