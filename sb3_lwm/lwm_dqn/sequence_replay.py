"""What sequences change in DQN's replay: which one there is, whether it fits into memory, and what load accepts."""

import pathlib
import pickle
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.save_util import load_from_pkl, open_path
from stable_baselines3.dqn.dqn import DQN

from sb3_lwm.common.files import Path, check_model_file
from sb3_lwm.lwm_dqn.policies import LWMPolicy
from sb3_lwm.replay.memory_budget import ReplayMemory
from sb3_lwm.replay.observation_storage import check_storage, observation_bytes
from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

SelfSequenceReplayDQN = TypeVar("SelfSequenceReplayDQN", bound="SequenceReplayDQN")


class SequenceReplayDQN(DQN):
    """
    The part of a recurrent DQN that makes and loads the replay of sequences. Base class of :class:`~sb3_lwm.LWMDQN`.
    """

    policy: LWMPolicy
    replay_buffer: SequenceReplayBuffer | None
    burn_in: int
    unroll: int
    prioritized_replay: bool
    priority_exponent: float
    importance_exponent: float
    storage_device: str
    compression: str | None
    # ids of sequences and their priorities, which are read back from a GPU when it has nothing else to do
    _new_priorities: list[tuple[np.ndarray, th.Tensor]]

    @property
    def sequence_length(self) -> int:
        """:return: rows of a sequence: burn-in, learned rows, and what the n-step return of the last one needs"""
        return self.burn_in + self.unroll + self.n_steps

    @property
    def buffer_class(self) -> type[SequenceReplayBuffer]:
        """:return: ``replay_buffer_class``, or what ``prioritized_replay`` asks for"""
        if self.replay_buffer_class is not None:
            return self.replay_buffer_class  # type: ignore[return-value]
        return PrioritizedSequenceReplayBuffer if self.prioritized_replay else SequenceReplayBuffer

    def _make_replay_buffer(self, buffer_size: int) -> SequenceReplayBuffer:
        return self.buffer_class(
            buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            **self._buffer_arguments(),
        )

    def allocate_replay(self) -> SequenceReplayBuffer:
        """
        :return: an empty replay
        :raises MemoryError: if there is no room for it
        """
        sentence = self.replay_memory().check()
        if self.verbose >= 1:
            print(sentence)
        self._new_priorities = []
        return self._make_replay_buffer(self.buffer_size)

    def _buffer_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "sequence_length": self.sequence_length,
            "storage_device": self.storage_device,
            "compression": self.compression,
        }
        if issubclass(self.buffer_class, PrioritizedSequenceReplayBuffer):
            arguments["stride"] = self.unroll
            arguments["priority_exponent"] = self.priority_exponent
            arguments["importance_exponent"] = self.importance_exponent
        return {**arguments, **self.replay_buffer_kwargs}

    def replay_memory(self) -> ReplayMemory:
        """
        :return: what the replay will need
        :raises ValueError: if there is no such ``storage_device`` or ``compression``
        """
        arguments = self._buffer_arguments()
        compression = arguments["compression"]
        state_bytes = sum(part.nbytes for part in self.policy.initial_state(1))
        return ReplayMemory(
            buffer_size=self.buffer_size,
            observation_bytes=observation_bytes(self.observation_space),
            other_bytes=self.buffer_class.bytes_per_row(state_bytes, arguments.get("stride", 1)),
            storage_device=check_storage(arguments["storage_device"], compression),
            compression=compression,
        )

    @classmethod
    def load(cls: type[SelfSequenceReplayDQN], path: Path, *args: Any, **kwargs: Any) -> SelfSequenceReplayDQN:
        """
        See :meth:`stable_baselines3.DQN.load`; without an environment no replay buffer is allocated.

        :param path: file that ``save`` has written
        :param args: as there
        :param kwargs: as there
        :return: the agent
        :raises ValueError: if the file is no model of LWM-DQN or was cut short; names the file
        """
        check_model_file(path)
        return super().load(path, *args, **kwargs)

    def set_parameters(self, load_path_or_dict: Any, *args: Any, **kwargs: Any) -> None:
        """
        See :meth:`stable_baselines3.DQN.set_parameters`.

        :param load_path_or_dict: a file that ``save`` has written, or what ``get_parameters`` returns
        :param args: as there
        :param kwargs: as there
        :raises ValueError: if the file is no model of LWM-DQN or was cut short; names the file
        """
        if not isinstance(load_path_or_dict, dict):
            check_model_file(load_path_or_dict)
        super().set_parameters(load_path_or_dict, *args, **kwargs)

    def load_replay_buffer(self, path: Path, truncate_last_traj: bool = True) -> None:
        """
        Load a replay buffer from a pickle file.

        :param path: what ``save_replay_buffer`` has written
        :param truncate_last_traj: has no meaning here: the environments are reset, which closes the episodes under way
        :raises ValueError: if the file is no replay buffer or was cut short, or does not fit this agent
        """
        file = open_path(path, "r", verbose=self.verbose, suffix="pkl")
        try:
            buffer = load_from_pkl(file, self.verbose)
        except (pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"{path} is no replay buffer, or was cut short ({error}).") from error
        finally:
            if isinstance(path, str | pathlib.Path):
                file.close()
        # as small as can be: it is only compared with
        arguments = self._buffer_arguments()
        rows = self.buffer_class.rows_needed(arguments["sequence_length"], arguments.get("stride", 1))
        expected = self._make_replay_buffer(self.n_envs * rows)
        for name in ("__class__", "n_envs", "stride", "observation_space"):
            value, needed = getattr(buffer, name, None), getattr(expected, name)
            if value != needed:
                raise ValueError(
                    f"The replay buffer in {path} does not fit this agent: its {name} is {value}, the agent needs {needed}."
                )
        buffer.sequence_length = expected.sequence_length
        buffer.device = self.device
        self.replay_buffer = buffer
        self._new_priorities = []
