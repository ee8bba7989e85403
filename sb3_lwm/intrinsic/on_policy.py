"""The intrinsic reward of on-policy algorithms: its advantages are added to those of each rollout."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_lwm.common.type_aliases import Observations, SequenceSamples, Transitions, map_observations
from sb3_lwm.common.windows import Stretches, episode_stretches
from sb3_lwm.intrinsic.critic import IntrinsicCritic, continuing_advantages
from sb3_lwm.world_model import WorldModelTrainer


class RolloutReward:
    """
    Adds the advantages of the intrinsic reward to the rollouts of A2C, PPO, TRPO, MaskablePPO and RecurrentPPO, and trains the
    world model and the value function of the intrinsic reward on them.

    :param model: The algorithm
    :param trainer: The trainer of the world model
    :param critic: The value function of the intrinsic reward
    :param n_passes: The number of passes of the world model over each rollout
    :param chunk_length: The number of steps of truncated backpropagation through time
    :param encoder_updates: The number of updates of the encoder of images after each rollout
    """

    def __init__(
        self,
        model: OnPolicyAlgorithm,
        trainer: WorldModelTrainer,
        critic: IntrinsicCritic,
        n_passes: int,
        chunk_length: int,
        encoder_updates: int,
    ) -> None:
        self.model = model
        self.trainer = trainer
        self.critic = critic
        self.world_model = trainer.world_model
        self.n_passes = n_passes
        self.chunk_length = chunk_length
        self.encoder_updates = encoder_updates
        # the hidden states of the predictor at the start of the next rollout, (n_envs, hidden_size)
        self.hidden = self.world_model.initial_hidden(model.n_envs)
        # the final observations of the episodes that have ended in this rollout, None where they are not known
        self._finals: dict[tuple[int, int], Any] = {}

    def on_rollout_start(self) -> None:
        """Forget the final observations of the last rollout."""
        self._finals = {}

    def on_step(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """
        Store the final observations of episodes, which the rollout buffer does not store.

        :param dones: Whether each episode has ended, (n_envs,) bool
        :param infos: The info dictionaries of the environments
        """
        for env in np.flatnonzero(dones).tolist():
            # a copy, since an environment may write every observation into the same array
            final = infos[env].get("terminal_observation")
            self._finals[self.model.rollout_buffer.pos, env] = None if final is None else map_observations(np.array, final)

    def on_rollout_end(self, scale: float) -> None:
        """
        Add the advantages of the intrinsic reward to those of the rollout, and train the world model and the value function of
        the intrinsic reward. The rewards and returns of the rollout remain those of the environment.

        :param scale: The factor of the advantages of the intrinsic reward
        """
        transitions, counted, observations, last_latents = self._read_rollout()
        chunks = range(0, len(counted), self.chunk_length)
        parts = [Transitions(*(part[start : start + self.chunk_length] for part in transitions)) for start in chunks]
        hiddens, errors = [], []
        with th.no_grad():
            for part in parts:
                hiddens.append(self.hidden)
                part_errors, _, self.hidden = self.world_model.transition_errors(part, self.hidden)
                errors.append(part_errors)
            self.world_model.normalizer.update(th.cat(errors), counted)
            rewards = self._rewards(th.cat(errors), counted)
        self._add_advantages(rewards, th.cat((transitions.latents, last_latents)), scale)
        for _ in range(self.n_passes):
            for start, part, hidden in zip(chunks, parts, hiddens, strict=True):
                _, losses, _ = self.world_model.transition_errors(part, hidden)
                self.trainer.update_predictor(losses, counted[start : start + self.chunk_length])
        self._update_encoder(observations)

    def _add_advantages(self, rewards: th.Tensor, latents: th.Tensor, scale: float) -> None:
        """Add the advantages of (T, B) rewards to the rollout, and train the values of the (T + 1, B, Z) latents."""
        buffer: Any = self.model.rollout_buffer
        with th.no_grad():
            values = self.critic(latents)
            advantages = continuing_advantages(rewards, values, self.critic.gamma, self.model.gae_lambda)
        buffer.advantages += scale * advantages.cpu().numpy()
        returns = advantages + values[:-1]
        self.trainer.scalars["intrinsic_value_loss"] = self.critic.learn(latents[:-1].flatten(0, 1), returns.flatten())
        self.trainer.scalars["intrinsic_advantage_std"] = advantages.std(correction=0)

    def _rewards(self, errors: th.Tensor, counted: th.Tensor) -> th.Tensor:
        """Return the (T, B) intrinsic rewards."""
        # Errors below the average say nothing about novelty: they are noise, most of the errors are among them, and the sum of
        # their negative rewards would hide the few errors that matter.
        rewards = self.world_model.normalizer(errors).clamp(min=0.0).masked_fill(~counted, 0.0)
        self.trainer.note_intrinsic_rewards(rewards)
        # Returns that never end contain the same multiple of the mean for every policy, which the values need not learn.
        mean = rewards.sum() / counted.sum().clamp(min=1)
        return (rewards - mean).masked_fill(~counted, 0.0)

    def _read_rollout(self) -> tuple[Transitions, th.Tensor, Observations, th.Tensor]:
        """Return transitions, whether each next observation is known, observations, and the latents after the last step."""
        buffer, device = self.model.rollout_buffer, self.model.device
        observations = map_observations(lambda part: th.as_tensor(part, device=device), buffer.observations)
        self.world_model.encoder.update_statistics(map_observations(lambda part: part.flatten(0, 1), observations))
        latents = self.world_model.encode(observations)
        last_latents = self._encode_last(self.model._last_obs)
        next_latents = th.cat((latents[1:], last_latents))
        counted = th.ones(latents.shape[:2], dtype=th.bool, device=device)
        places = [place for place, final in self._finals.items() if final is not None]
        if places:
            rows, envs = zip(*places, strict=True)
            next_latents[list(rows), list(envs)] = self._encode_last(_stack([self._finals[place] for place in places]))[0]
        for place, final in self._finals.items():
            counted[place] = final is not None
        actions = th.as_tensor(buffer.actions, device=device)
        if isinstance(self.model.action_space, spaces.Discrete):
            actions = actions[..., 0].long()
        starts = th.as_tensor(buffer.episode_starts, device=device).bool()
        return Transitions(latents, actions, starts, next_latents), counted, observations, last_latents

    def _encode_last(self, observations: Any) -> th.Tensor:
        """Return the (1, B, Z) latents of (B, ...) observations in the shapes of the environments."""
        shapes: Any = self.model.rollout_buffer.obs_shape

        def as_tensor(part: np.ndarray, shape: Any) -> th.Tensor:
            return th.as_tensor(np.asarray(part), device=self.model.device).reshape(1, -1, *shape)

        if isinstance(observations, dict):
            return self.world_model.encode({key: as_tensor(observations[key], shape) for key, shape in shapes.items()})
        return self.world_model.encode(as_tensor(observations, shapes))

    def _update_encoder(self, observations: Observations) -> None:
        """Train the encoder of images, if there are windows of the rollout that lie within one episode."""
        window = self.trainer.encoder_window
        if window == 0:
            return
        stretches = episode_stretches(self.model.rollout_buffer.episode_starts)
        if stretches.n_windows(window) == 0:
            self.trainer.warn_of_short_episodes()
            return
        for _ in range(self.encoder_updates):
            self.trainer.update_encoder(lambda *args, **kwargs: self._sample_windows(observations, stretches, *args, **kwargs))

    def _sample_windows(
        self,
        observations: Observations,
        stretches: Stretches,
        batch_size: int,
        sequence_length: int,
        within_episode: bool = True,
    ) -> SequenceSamples:
        """Draw windows with observations and actions only, from the global generator of PyTorch."""
        numbers = th.randint(stretches.n_windows(sequence_length), (batch_size,)).numpy()
        starts, envs = stretches.windows(numbers, sequence_length)
        rows = starts + np.arange(sequence_length)[:, None]
        actions = th.as_tensor(self.model.rollout_buffer.actions[rows, envs], device=self.model.device)
        if isinstance(self.model.action_space, spaces.Discrete):
            actions = actions[..., 0].long()
        return encoder_samples(map_observations(lambda part: part[rows, envs], observations), actions)


def encoder_samples(observations: Observations, actions: th.Tensor) -> SequenceSamples:
    """
    :param observations: Windows that lie within one episode each, (T, B, *observation shape)
    :param actions: The actions, (T, B) int64 or (T, B, *action shape)
    :return: Samples for the update of an encoder, without rewards
    """
    shape = actions.shape[:2]
    nothing = th.zeros(shape, device=actions.device)
    flags = nothing.bool()
    ids = np.zeros(shape[1], dtype=np.int64)
    return SequenceSamples(observations, actions, nothing, flags, flags, flags, None, nothing[0], ids, nothing)


def _stack(observations: list[Any]) -> Any:
    """Stack observations of single environments."""
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)
