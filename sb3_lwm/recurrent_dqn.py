"""What a memory changes in DQN: acting, storing, predicting, loading."""

import pathlib
import pickle
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.save_util import load_from_pkl, open_path
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn
from stable_baselines3.dqn.dqn import DQN

from sb3_lwm.buffers import VEC_NORMALIZE_REMEDY, SequenceReplayBuffer
from sb3_lwm.files import Path, check_model_file
from sb3_lwm.memory import ReplayMemory
from sb3_lwm.observation_storage import check_storage, observation_bytes
from sb3_lwm.policies import LWMPolicy
from sb3_lwm.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.td_learning import epsilon_ladder
from sb3_lwm.type_aliases import RecurrentState, map_observations

# Updates on a GPU between two looks at the losses
READING_INTERVAL = 100

SelfRecurrentDQN = TypeVar("SelfRecurrentDQN", bound="RecurrentDQN")


class RecurrentDQN(DQN):
    """
    The part of a recurrent DQN that plays and keeps: it carries the memory from step to step, draws epsilon for each
    environment by itself and stores what happened, with the memory. Base class of :class:`~sb3_lwm.LWMDQN`, which learns.
    """

    policy: LWMPolicy
    replay_buffer: SequenceReplayBuffer | None
    burn_in: int
    unroll: int
    prioritized_replay: bool
    priority_exponent: float
    importance_exponent: float
    exploration_eps_base: float | None
    exploration_eps_alpha: float
    step_ahead: bool
    storage_device: str
    compression: str | None
    # memory before the last observation, and after it
    _last_state: RecurrentState | None = None
    _next_state: RecurrentState | None = None
    # actions that the environments carry out already
    _sent_actions: np.ndarray | None = None
    # ids of sequences and their priorities, which are read back from a GPU when it has nothing else to do
    _new_priorities: list[tuple[np.ndarray, th.Tensor]]

    @property
    def reads_scalars(self) -> bool:
        """:return: whether to look at losses now: reading a value back from a GPU makes it idle"""
        return self.device.type == "cpu" or self._n_updates % READING_INTERVAL == 0

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

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self._vec_normalize_env is not None:
            # set_env may have brought it
            raise ValueError(VEC_NORMALIZE_REMEDY)
        if self.replay_buffer is None:
            sentence = self.replay_memory().check()
            if self.verbose >= 1:
                print(sentence)
            self.replay_buffer = self._make_replay_buffer(self.buffer_size)
        is_reset = reset_num_timesteps or self._last_obs is None
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if is_reset:
            self.replay_buffer.truncate_episodes()
            self._last_state = None
            self._sent_actions = None
            self._check_finite(self._last_obs, np.zeros(self.n_envs))
        return result

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """See :meth:`stable_baselines3.common.off_policy_algorithm.OffPolicyAlgorithm.collect_rollouts`."""
        rollout = super().collect_rollouts(*args, **kwargs)
        if not rollout.continue_training:
            # A callback has stopped the training on a step that SB3 does not store. What follows would not be what came
            # next: a later learn() resets the environments.
            self._last_obs = None
        return rollout

    def _exploration_epsilons(self) -> np.ndarray | float:
        """:return: (n_envs,) float or one for all, probability of a random action"""
        if self.exploration_eps_base is None:
            return self.exploration_rate
        return np.array(epsilon_ladder(self.n_envs, self.exploration_eps_base, self.exploration_eps_alpha))

    def _on_step(self) -> None:
        # unlike DQN's, the target network moves with the updates, not with the steps
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", float(np.mean(self._exploration_epsilons())))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self._sent_actions is not None:
            # VecEnv.step sends them once more, which the environments take for what it is
            actions, self._sent_actions = self._sent_actions, None
            return actions, actions
        assert self._last_obs is not None and self._last_episode_starts is not None
        if self._last_state is None:
            self._last_state = self.policy.initial_state(n_envs)
        # the networks are stepped in the warm-up too: its sequences are stored with their memory
        epsilons = 1.0 if self.num_timesteps < learning_starts else self._exploration_epsilons()
        observations, _ = self.policy.obs_to_tensor(self._last_obs)
        starts = th.as_tensor(self._last_episode_starts, dtype=th.bool, device=self.device)
        actions, self._next_state = self.policy.act(observations, self._last_state, starts, epsilons)
        return actions, actions

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        next_obs = map_observations(np.copy, new_obs)
        for env in np.flatnonzero(dones):
            # a VecEnv has reset this environment already
            final = infos[env]["terminal_observation"]
            if isinstance(next_obs, dict):
                for key, part in final.items():
                    next_obs[key][env] = part
            else:
                next_obs[env] = final
        self._check_finite(next_obs, reward)
        assert isinstance(replay_buffer, SequenceReplayBuffer)
        # before the new rows, which may give the place of a sequence to another
        self._store_priorities()
        replay_buffer.add(self._last_obs, next_obs, buffer_action, reward, dones, infos, self._last_state, self._next_state)
        self._last_obs = new_obs
        self._last_episode_starts = dones
        self._last_state = self._next_state
        if self.step_ahead and self.num_timesteps < self._total_timesteps:
            assert self.env is not None
            self._sent_actions, _ = self._sample_action(self.learning_starts, n_envs=self.n_envs)
            self.env.step_async(self._sent_actions)

    def _store_priorities(self) -> None:
        for sequence_ids, priorities in self._new_priorities:
            assert isinstance(self.replay_buffer, PrioritizedSequenceReplayBuffer)
            self.replay_buffer.update_priorities(sequence_ids, priorities.cpu().numpy())
        self._new_priorities = []

    def _check_finite(self, observations: Any, rewards: np.ndarray) -> None:
        named = list(observations.items()) if isinstance(observations, dict) else [("observation", observations)]
        for name, values in [*named, ("reward", rewards)]:
            values = np.asarray(values)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                env = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0]
                raise ValueError(f"The {name} of environment {env} is not finite: {values[env]}. Mend the environment.")

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: RecurrentState | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, RecurrentState]:
        """
        Get the action for an observation and the memory of the episode so far.

        :param observation: as :meth:`LWMPolicy.predict`, and so are the others
        :param state: None at the start
        :param episode_start: (n_envs,) bool
        :param deterministic: False by default
        :return: the action or actions, and the memory to give to the next call
        """
        return self.policy.predict(observation, state, episode_start, deterministic)

    @classmethod
    def load(cls: type[SelfRecurrentDQN], path: Path, *args: Any, **kwargs: Any) -> SelfRecurrentDQN:
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

    def _excluded_save_params(self) -> list[str]:
        # SB3 resets the environments of a loaded model, which begins episodes and memories anew
        return [*super()._excluded_save_params(), "_last_state", "_next_state", "_sent_actions"]
