"""What a memory changes in DQN: acting, storing, predicting."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn
from stable_baselines3.common.vec_env import VecEnv

from sb3_lwm.common.exploration import epsilon_ladder
from sb3_lwm.common.finite_guard import FiniteGuard, NonFiniteError
from sb3_lwm.common.type_aliases import RecurrentState, map_observations
from sb3_lwm.common.vec_normalize import VEC_NORMALIZE_REMEDY
from sb3_lwm.envs import AtariVecEnv
from sb3_lwm.lwm_dqn.sequence_replay import SequenceReplayDQN
from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

# Updates on a GPU between two looks at the losses
READING_INTERVAL = 100


class RecurrentDQN(SequenceReplayDQN):
    """
    The part of a recurrent DQN that plays and stores: it carries the memory from step to step, draws epsilon for each
    environment by itself and stores what happened, with the memory. Base class of :class:`~sb3_lwm.LWMDQN`, which learns.
    """

    exploration_eps_base: float | None
    exploration_eps_alpha: float
    step_ahead: bool
    # at safe points, and at a failure
    _listeners: list[tuple[Callable[[], None], Callable[[], None]]]
    _ends_of_learning: ExitStack
    finite_guard: FiniteGuard
    # memory before the last observation, and after it
    _last_state: RecurrentState | None = None
    _next_state: RecurrentState | None = None
    # actions that the environments carry out already
    _sent_actions: np.ndarray | None = None
    # steps of a rollout whose end, the pretraining, is under way
    _collected_rollout: int | None = None

    @property
    def reads_scalars(self) -> bool:
        """:return: whether to look at losses now: reading a value back from a GPU makes it idle"""
        return self.device.type == "cpu" or self._n_updates % READING_INTERVAL == 0

    @property
    def last_training_state(self) -> Path | None:
        """:return: the newest training state; see :class:`~sb3_lwm.lwm_dqn.resumable_dqn.ResumableDQN`"""
        return None

    def describe_position(self) -> str:
        """:return: how far the training is, and from where it could go on, in words"""
        position = f"(Step {self.num_timesteps}, update {self._n_updates}."
        last = self.last_training_state
        return f"{position})" if last is None else f"{position} The last training state is {last}.)"

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
        if self.step_ahead and not isinstance(self.env and self.env.unwrapped, AtariVecEnv):
            raise ValueError(f"step_ahead=True needs an AtariVecEnv, not {self.env}: use step_ahead=False.")
        if self.replay_buffer is None:
            self.replay_buffer = self.allocate_replay()
        is_reset = reset_num_timesteps or self._last_obs is None
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if is_reset:
            self.replay_buffer.truncate_episodes()
            self._last_state = None
            self._sent_actions = None
            self._collected_rollout = None
            self._check_finite(self._last_obs, np.zeros(self.n_envs))
        return result

    def at_safe_points(self, listener: Callable[[], None], on_failure: Callable[[], None]) -> None:
        """
        :param listener: to call, until ``learn`` ends, wherever the agent is complete: before each rollout, and in the
            pretraining before each update
        :param on_failure: to call when something fails in a rollout
        """
        self._listeners.append((listener, on_failure))
        self.at_end_of_learning(self._listeners.clear)

    def at_end_of_learning(self, function: Callable[..., Any], *args: Any) -> None:
        """
        :param function: to call when ``learn`` ends, by whatever exception
        :param args: of it
        """
        self._ends_of_learning.callback(function, *args)

    def safe_point(self) -> None:
        """Here all that a training state holds is complete."""
        for listener, _ in self._listeners:
            listener()

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> RolloutReturn:
        """See :meth:`stable_baselines3.common.off_policy_algorithm.OffPolicyAlgorithm.collect_rollouts`."""
        self.safe_point()
        if self._collected_rollout is not None:
            # resumed in the middle of the pretraining
            callback.on_rollout_end()
            rollout = RolloutReturn(self._collected_rollout, n_episodes=0, continue_training=True)
        else:
            rollout = self._collect(env, callback, *args, **kwargs)
        self._collected_rollout = None
        if not rollout.continue_training:
            # A callback has stopped the training on a step that SB3 does not store. What follows would not be what came
            # next: a later learn() resets the environments.
            self._last_obs = None
        return rollout

    def _collect(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        try:
            return super().collect_rollouts(*args, **kwargs)
        except NonFiniteError:
            raise
        except Exception as error:
            # the environments are not where the agent thinks they are: a later learn() resets them
            self._last_obs = self._sent_actions = None
            for _, on_failure in self._listeners:
                on_failure()
            if isinstance(error, EOFError | ConnectionError):
                raise RuntimeError(
                    "A process of the environments has ended; it has printed its own error above. "
                    "sb3_lwm.envs.ReportingSubprocVecEnv, in the place of SubprocVecEnv, raises that here."
                ) from error
            raise

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
                raise self.finite_guard.error(
                    f"The {name} of environment {env} is not finite: {values[env]}. Mend the environment."
                )

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

    def dump_logs(self) -> None:
        """Write log data; ``rollout/rooms_mean`` too, where the records of whole games have ``rooms``."""
        rooms = [record["rooms"] for record in self.ep_info_buffer or () if "rooms" in record]
        if rooms:
            self.logger.record("rollout/rooms_mean", float(np.mean(rooms)))
        super().dump_logs()

    def _excluded_save_params(self) -> list[str]:
        # SB3 resets the environments of a loaded model, which begins episodes and memories anew
        acting = ["_last_state", "_next_state", "_sent_actions", "_collected_rollout"]
        return [*super()._excluded_save_params(), *acting, "_listeners", "_ends_of_learning", "finite_guard"]
