"""The intrinsic reward of off-policy algorithms: it is added to each sampled batch, and never stored."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_lwm.common.type_aliases import Observations, SequenceSamples, Transitions, map_observations
from sb3_lwm.common.windows import Stretches, episode_stretches
from sb3_lwm.intrinsic.on_policy import encoder_samples
from sb3_lwm.world_model import WorldModelTrainer


class ReplayReward:
    """
    Adds the intrinsic reward of the present world model to the batches of DQN, QRDQN, SAC, TD3 and TQC, and trains the world
    model on the transitions before each sampled one, which warm its hidden state up.

    :param model: The algorithm
    :param trainer: The trainer of the world model
    :param warm_up: The number of transitions before each sampled one
    :param update_interval: The number of sampled batches between two updates of the world model
    :param scale: The function that returns the present factor of the normalised prediction errors
    :raises ValueError: If the transitions of the algorithm's replay buffer cannot be relabelled
    """

    def __init__(
        self,
        model: OffPolicyAlgorithm,
        trainer: WorldModelTrainer,
        warm_up: int,
        update_interval: int,
        scale: Callable[[], float],
    ) -> None:
        assert model.replay_buffer is not None
        check_buffer(model.replay_buffer)
        self.model = model
        self.trainer = trainer
        self.world_model = trainer.world_model
        self.warm_up = warm_up
        self.update_interval = update_interval
        self.n_batches = 0
        self.scale = scale

    def attach(self) -> None:
        """Make the replay buffer add the intrinsic reward to sampled batches."""
        buffer = self.model.replay_buffer
        assert buffer is not None
        if not isinstance(buffer, _Relabelled):
            buffer.__class__ = type(f"Relabelled{type(buffer).__name__}", (_Relabelled, type(buffer)), {})
        buffer.intrinsic_reward = self  # type: ignore[attr-defined]

    def detach(self) -> None:
        """Restore the original class of the replay buffer."""
        buffer = self.model.replay_buffer
        if isinstance(buffer, _Relabelled):
            buffer.__class__ = type(buffer).__mro__[2]
            del buffer.intrinsic_reward

    def rewards(self, batch_inds: np.ndarray, env_indices: np.ndarray, env: VecNormalize | None) -> th.Tensor:
        """
        Return the intrinsic rewards of sampled transitions, and with every ``update_interval``-th batch make one predictor
        update on the windows that end with them. The prediction errors are those of the model before the update.

        :param batch_inds: The rows of the sampled transitions, (B,) int
        :param env_indices: The environments of the sampled transitions, (B,) int
        :param env: The VecNormalize that normalises observations; None without one
        :return: The intrinsic rewards, (B, 1) float
        """
        buffer, (rows, starts, is_stored) = self.model.replay_buffer, self._windows(batch_inds, env_indices)
        observations = self._take("observations", rows, env_indices, env)
        self.world_model.train()
        self.world_model.encoder.update_statistics(map_observations(lambda part: part.flatten(0, 1), observations))
        transitions = Transitions(
            self.world_model.encode(observations),
            self._actions(rows, env_indices),
            th.as_tensor(starts, device=self.model.device),
            self.world_model.encode(self._take("next_observations", rows, env_indices, env)),
        )
        assert buffer is not None
        hidden = self.world_model.initial_hidden(len(batch_inds))
        is_update = self.n_batches % self.update_interval == 0
        self.n_batches += 1
        with th.set_grad_enabled(is_update):
            errors, losses, _ = self.world_model.transition_errors(transitions, hidden)
            if is_update:
                self.trainer.update_predictor(losses, th.as_tensor(is_stored, device=self.model.device))
        self.world_model.normalizer.update(errors[-1])
        rewards = self.scale() * self.world_model.normalizer(errors[-1])
        self.trainer.note_intrinsic_rewards(rewards)
        return rewards.unsqueeze(1)

    def _windows(self, batch_inds: np.ndarray, env_indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the (T, B) rows of windows, whether the hidden state is reset before each, and whether each is stored."""
        buffer = self.model.replay_buffer
        assert buffer is not None
        offsets = np.arange(-self.warm_up, 1)[:, None]
        rows = (batch_inds + offsets) % buffer.buffer_size
        # the number of rows between the oldest row and the sampled one
        older = (batch_inds - buffer.pos) % buffer.buffer_size if buffer.full else batch_inds
        is_stored = -offsets <= older
        starts = ~is_stored
        starts[1:] |= buffer.dones[rows[:-1], env_indices].astype(bool) | ~is_stored[:-1]
        starts[0] = True
        return rows, starts, is_stored

    def _take(self, name: str, rows: np.ndarray, envs: np.ndarray, env: VecNormalize | None) -> Observations:
        """Return the normalised observations of these rows on the device of the agent."""
        buffer = self.model.replay_buffer
        assert buffer is not None
        observations = map_observations(lambda part: part[rows, envs], getattr(buffer, name))
        normalized = buffer._normalize_obs(observations, env)
        return map_observations(lambda part: th.as_tensor(part, device=self.model.device), normalized)

    def _actions(self, rows: np.ndarray, envs: np.ndarray) -> th.Tensor:
        """Return the actions of these rows."""
        buffer = self.model.replay_buffer
        assert buffer is not None
        actions = th.as_tensor(buffer.actions[rows, envs], device=self.model.device)
        return actions[..., 0].long() if isinstance(self.model.action_space, spaces.Discrete) else actions

    def update_encoder(self) -> None:
        """Make one update of the encoder of images, if there are windows that lie within one episode."""
        window = self.trainer.encoder_window
        if window == 0:
            return
        stretches = self._episodes()
        if stretches.n_windows(window) == 0:
            self.trainer.warn_of_short_episodes()
            return
        self.trainer.update_encoder(lambda *args, **kwargs: self._sample_windows(stretches, *args, **kwargs))

    def _sample_windows(
        self, stretches: Stretches, batch_size: int, sequence_length: int, within_episode: bool = True
    ) -> SequenceSamples:
        """Draw windows with observations and actions only, from the global generator of PyTorch."""
        numbers = th.randint(stretches.n_windows(sequence_length), (batch_size,)).numpy()
        starts, envs = stretches.windows(numbers, sequence_length)
        buffer = self.model.replay_buffer
        assert buffer is not None
        rows = (starts + np.arange(sequence_length)[:, None]) % buffer.buffer_size
        return encoder_samples(self._take("observations", rows, envs, None), self._actions(rows, envs))

    def _episodes(self) -> Stretches:
        """Return the stored rows of each episode, in the order of time from the oldest row on."""
        buffer = self.model.replay_buffer
        assert buffer is not None
        oldest = buffer.pos if buffer.full else 0
        rows = (oldest + np.arange(buffer.size())) % buffer.buffer_size
        starts = np.zeros((len(rows), buffer.n_envs), dtype=bool)
        starts[1:] = buffer.dones[rows[:-1]]
        episodes = episode_stretches(starts)
        return episodes._replace(firsts=episodes.firsts + oldest)


def check_buffer(buffer: ReplayBuffer) -> None:
    """
    :param buffer: The replay buffer of the algorithm
    :raises ValueError: If its transitions cannot be relabelled; the message names the remedy
    """
    if isinstance(buffer, HerReplayBuffer):
        raise ValueError(
            "IntrinsicRewardCallback: HerReplayBuffer changes the goals of stored transitions, whose order in time the world "
            "model needs: use the default replay buffer."
        )
    if isinstance(buffer, NStepReplayBuffer):
        raise ValueError("IntrinsicRewardCallback: NStepReplayBuffer adds the rewards of several steps up: use n_steps=1.")
    if buffer.optimize_memory_usage:
        raise ValueError(
            "IntrinsicRewardCallback: optimize_memory_usage=True drops the final observations of episodes, which the world "
            "model predicts: use optimize_memory_usage=False."
        )


class _Relabelled(ReplayBuffer):
    """A replay buffer that adds the intrinsic reward when it is sampled; it is pickled as a buffer of its original class."""

    intrinsic_reward: ReplayReward

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> Any:
        # SB3 draws the environments inside this method: draw the same ones first
        state = np.random.get_state()
        env_indices = np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))
        np.random.set_state(state)
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(rewards=samples.rewards + self.intrinsic_reward.rewards(batch_inds, env_indices, env))

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = {name: value for name, value in vars(self).items() if name != "intrinsic_reward"}
        # object.__new__ of the original class, then its attributes
        return object.__new__, (type(self).__mro__[2],), state
