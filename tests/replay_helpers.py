"""A player that fills replay buffers with observations that contain their place, and records all of its steps."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_lwm.common.type_aliases import RecurrentState, SequenceSamples
from sb3_lwm.replay.observation_storage import CompressedStorage, HostStorage, ObservationStorage, TorchStorage
from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

# An observation's code is ENV_CODE * environment + number of the row among all rows the environment ever wrote
ENV_CODE = 4096
N_ACTIONS = 5

# Wide enough for the codes of 8 environments, whatever the base of their digits
SPACES: dict[str, spaces.Space] = {
    "box": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "float64": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    "image": spaces.Box(0, 255, (1, 2, 3), np.uint8),
    "discrete": spaces.Discrete(8 * ENV_CODE),
    "multi_discrete": spaces.MultiDiscrete([32] * 3),
    "multi_binary": spaces.MultiBinary(15),
    "multi_binary_2d": spaces.MultiBinary((3, 5)),
}
SPACES["dict"] = spaces.Dict({name: SPACES[name] for name in ("box", "image", "discrete", "multi_discrete", "multi_binary")})

# The storages of observations, with PyTorch's on a device that every machine has
STORAGES: dict[str, Any] = {
    "host": HostStorage,
    "torch": partial(TorchStorage, storage_device="cpu"),
    "zstd": partial(CompressedStorage, compression="zstd"),
}


def _base(space: spaces.Space) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec[0])
    return 2 if isinstance(space, spaces.MultiBinary) else 256


def encode(space: spaces.Space, code: int) -> Any:
    """
    :param space: An observation space
    :param code: The code, not negative
    :return: The observation of this space whose values are the digits of the code
    """
    if isinstance(space, spaces.Dict):
        return {key: encode(part, code) for key, part in space.items()}
    digits = [code // _base(space) ** place % _base(space) for place in range(int(np.prod(space.shape, initial=1)))]
    return np.array(digits, dtype=space.dtype).reshape(space.shape)


def decode(space: spaces.Space, observation: Any) -> int:
    """
    :param space: An observation space
    :param observation: An observation of one environment, made by :func:`encode`
    :return: The code of the observation, which must be the same for all parts of a dictionary
    """
    if isinstance(space, spaces.Dict):
        codes = {decode(part, observation[key]) for key, part in space.items()}
        assert len(codes) == 1
        return codes.pop()
    return sum(int(digit) * _base(space) ** place for place, digit in enumerate(np.asarray(observation).ravel()))


class Row(NamedTuple):
    """The required content of one row of the replay, except for its observation."""

    action: int
    reward: float
    episode_start: bool
    final: bool
    termination: bool


class Player:
    """
    Plays random episodes into a buffer, in the way of LWMDQN's ``_store_transition``, and records every row in plain lists.

    :param buffer: The buffer to fill
    :param seed: The seed of actions, rewards, ends of episodes, and samples
    :param end_chance: The probability that an episode ends at a step, or one for each environment; half of the ends are
        time-outs
    """

    def __init__(self, buffer: SequenceReplayBuffer, seed: int = 0, end_chance: float | list[float] = 0.2) -> None:
        self.buffer = buffer
        self.n_envs = buffer.n_envs
        self.rng = np.random.default_rng(seed)
        buffer.rng = np.random.default_rng(seed + 1)
        self.end_chance = end_chance
        self.rows: list[list[Row]] = [[] for _ in range(self.n_envs)]
        self.is_start = [True] * self.n_envs

    def observe(self, ahead: int = 0) -> Any:
        """
        :param ahead: The number of rows after the next one
        :return: The observations of this row, one for each environment
        """
        space = self.buffer.observation_space
        codes = [ENV_CODE * env + len(rows) + ahead for env, rows in enumerate(self.rows)]
        observations = [encode(space, code) for code in codes]
        if isinstance(space, spaces.Dict):
            return {key: np.stack([observation[key] for observation in observations]) for key in space}
        return np.stack(observations)

    def memory(self, ahead: int = 0) -> RecurrentState:
        """
        :param ahead: The number of rows after the next one
        :return: The hidden states before this row, whose parts all differ
        """
        codes = np.array([ENV_CODE * env + len(rows) + ahead for env, rows in enumerate(self.rows)])
        columns = codes.astype(np.float32)[:, None]
        return RecurrentState(np.repeat(columns, 3, axis=1), np.repeat(columns + 0.25, 2, axis=1), columns + 0.5, codes)

    def play(self, steps: int, **without: Any) -> None:
        """
        :param steps: The number of steps of every environment
        :param without: The arguments of ``add`` to replace
        """
        for _ in range(steps):
            actions = self.rng.integers(N_ACTIONS, size=self.n_envs)
            rewards = self.rng.normal(size=self.n_envs).astype(np.float32)
            dones = self.rng.random(self.n_envs) < self.end_chance
            # the key is missing where there was no time limit, as in an environment without the wrapper
            timeouts = [bool(done and self.rng.random() < 0.5) for done in dones]
            infos = [{"TimeLimit.truncated": True} if timeout else {} for timeout in timeouts]
            states = {"states": self.memory(), "next_states": self.memory(ahead=1), **without}
            self.buffer.add(self.observe(), self.observe(ahead=1), actions, rewards, dones, infos, **states)
            for env, rows in enumerate(self.rows):
                rows.append(Row(int(actions[env]), float(rewards[env]), self.is_start[env], False, False))
                self.is_start[env] = bool(dones[env])
                if dones[env]:
                    is_terminated = not (timeouts[env] and self.buffer.handle_timeout_termination)
                    rows.append(Row(0, 0.0, False, True, is_terminated))

    def truncate(self) -> None:
        """Reset the environments from outside: the last observations turn into final ones."""
        self.buffer.truncate_episodes()
        for env, rows in enumerate(self.rows):
            if rows and not self.is_start[env]:
                rows[-1] = Row(0, 0.0, rows[-1].episode_start, True, False)
            self.is_start[env] = True

    def oldest(self, env: int) -> int:
        """Return the number of the oldest row of an environment that the buffer still holds."""
        return max(len(self.rows[env]) - self.buffer.buffer_size, 0)

    def check(self, samples: SequenceSamples, column: int) -> tuple[int, int]:
        """
        Compare a sampled window with the played steps, except for the start flag of its first row.

        :param samples: The (T, B) rows
        :param column: The number of the window
        :return: The environment of the window, and the number of its first row
        """
        space = self.buffer.observation_space
        length = len(samples.rewards)
        codes = []
        for step in range(length):
            parts = samples.observations
            row = {key: part[step, column] for key, part in parts.items()} if isinstance(parts, dict) else parts[step, column]
            codes.append(decode(space, row))
        env, first = divmod(codes[0], ENV_CODE)
        assert codes == list(range(codes[0], codes[0] + length)), "the rows are not consecutive"
        assert self.oldest(env) <= first <= len(self.rows[env]) - length, "the window crosses the write cursor"
        for step, row in enumerate(self.rows[env][first : first + length]):
            flags = (samples.finals[step, column].item(), samples.terminations[step, column].item())
            assert (samples.actions[step, column].item(), *flags) == (row.action, row.final, row.termination)
            assert samples.rewards[step, column].item() == row.reward
            if step > 0:
                assert samples.episode_starts[step, column].item() == row.episode_start
        return env, first


def complete_sequences(player: Player) -> set[tuple[int, int]]:
    """
    :param player: A player that has played into a prioritised buffer
    :return: The environment and first row of every sequence that is complete and not overwritten, found by trying every row
    """
    buffer = player.buffer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer)
    return {
        (env, first)
        for env, rows in enumerate(player.rows)
        for first in range(len(rows))
        if first % buffer.stride == 0 and first + buffer.sequence_length <= len(rows) and first >= player.oldest(env)
    }


def check_sequence(player: Player, samples: SequenceSamples, column: int) -> tuple[int, int]:
    """
    Compare a sequence with the played steps.

    :param player: A player that has played into a prioritised buffer
    :param samples: The sequences of this buffer
    :param column: The number of the sequence
    :return: The environment and first row of the sequence
    """
    env, first = player.check(samples, column)
    assert samples.episode_starts[0, column].item() == player.rows[env][first].episode_start
    code = ENV_CODE * env + first
    assert samples.initial_states is not None
    memories = [part[column].tolist() for part in samples.initial_states]
    assert memories == [[code] * 3, [code + 0.25] * 2, [code + 0.5], code]
    return env, first


def give_priorities(player: Player, priority: float = 1.0) -> dict[tuple[int, int], int]:
    """
    :param player: A player that has played into a prioritised buffer
    :param priority: The priority to set for all sequences without one
    :return: The ids of these sequences, by environment and first row
    """
    buffer = player.buffer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer)
    ids = buffer.take_without_priority(n_waiting=0)
    if len(ids) == 0:
        return {}
    samples = buffer.sequences(ids)
    assert samples.sequence_ids.tolist() == ids.tolist()
    assert (samples.importance_weights == 1.0).all()
    named = {check_sequence(player, samples, column): int(sequence_id) for column, sequence_id in enumerate(ids)}
    assert len(named) == len(ids), "a sequence was returned twice"
    buffer.update_priorities(ids, th.full((len(ids),), priority))
    return named


def stored(buffer: SequenceReplayBuffer, name: str) -> np.ndarray:
    """
    :param buffer: A buffer whose observation space is not a Dict
    :param name: The name of an attribute with data of each row
    :return: The whole data, (rows, n_envs, ...)
    """
    value = getattr(buffer, name)
    if isinstance(value, ObservationStorage):
        return value.take(np.arange(value.rows * value.n_envs).reshape(value.rows, -1), th.device("cpu")).numpy()
    return value


def chi_square_bound(degrees: int) -> float:
    """
    :param degrees: The degrees of freedom
    :return: A bound that a chi-square exceeds about once in a million draws (five standard deviations above its mean)
    """
    return degrees + 5.0 * (2.0 * degrees) ** 0.5
