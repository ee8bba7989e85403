"""The teacher of the world model: it trains it, and pays the intrinsic reward to every sampled batch."""

from typing import TYPE_CHECKING, Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import update_learning_rate
from tqdm import tqdm

from sb3_lwm.buffers import SequenceReplayBuffer
from sb3_lwm.policies import LWMPolicy
from sb3_lwm.type_aliases import RecurrentState, SequenceSamples, map_observations
from sb3_lwm.world_model import LatentWorldModel, prediction_errors

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


class LatentWorldModelCallback(BaseCallback):
    """
    Trains the world model of an :class:`~sb3_lwm.LWMDQN`, which adds this callback to every ``learn`` by itself.

    At the end of the warm-up it trains the predictor on random play; afterwards it makes one predictor update on each batch
    that the agent learns from (LWM, section 4.2) and adds the intrinsic reward to the batch.

    :param pretraining_updates: predictor updates after the warm-up
    :param pretraining_batch_size: windows in each of them
    :param pretraining_sequence_length: rows of each window
    :param verbose: 0: a progress bar of the pretraining on a terminal only, 1: always
    """

    model: "OffPolicyAlgorithm"

    def __init__(
        self,
        pretraining_updates: int = 1000,
        pretraining_batch_size: int = 64,
        pretraining_sequence_length: int = 100,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.pretraining_updates = pretraining_updates
        self.pretraining_batch_size = pretraining_batch_size
        self.pretraining_sequence_length = pretraining_sequence_length

    @property
    def policy(self) -> LWMPolicy:
        """:return: the policy whose world model is trained"""
        assert isinstance(self.model.policy, LWMPolicy)
        return self.model.policy

    @property
    def world_model(self) -> LatentWorldModel:
        """:return: the model that is trained"""
        assert self.policy.world_model is not None
        return self.policy.world_model

    @property
    def replay_buffer(self) -> SequenceReplayBuffer:
        """:return: what it is trained on"""
        assert isinstance(self.model.replay_buffer, SequenceReplayBuffer)
        return self.model.replay_buffer

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        # SB3 calls this just before train(), which starts under the same condition
        is_warm = self.model.num_timesteps > self.model.learning_starts
        if is_warm and self.replay_buffer.can_sample(self.pretraining_sequence_length):
            self._pretrain()

    def _pretrain(self) -> None:
        done = int(self.world_model.n_updates)
        if done >= self.pretraining_updates:
            return
        # without a terminal nobody sees a bar, but a log should show where the time went
        hidden = None if self.verbose == 0 else False
        updates = range(done, self.pretraining_updates)
        for _ in tqdm(updates, desc="Pretraining the world model", unit="update", disable=hidden, mininterval=1.0):
            self.update(self.replay_buffer.sample_windows(self.pretraining_batch_size, self.pretraining_sequence_length))

    def relabel(self, samples: SequenceSamples) -> SequenceSamples:
        """
        Pay the intrinsic reward of the present model for every observation of a batch. No update is made.

        :param samples: (T, B) rows as the replay buffer gives them
        :return: the same with ``intrinsic_rewards``, and with ``rewards`` to which the intrinsic reward of the observation
            that the action led to is added
        """
        with th.no_grad():
            return self._pay(samples, self._errors(samples))

    def update(self, samples: SequenceSamples) -> SequenceSamples:
        """
        Make one predictor update on a batch, then pay its intrinsic rewards.

        The errors are those of the model before the update, so that the batch need not be predicted twice.

        :param samples: (T, B) rows as the replay buffer gives them
        :return: as :meth:`relabel`
        :raises ValueError: if the loss is not finite
        """
        self.policy.set_training_mode(True)
        model, optimizer = self.world_model, self.policy.world_model_optimizer
        model.encoder.update_statistics(map_observations(lambda part: part.flatten(0, 1), samples.observations))
        errors = self._errors(samples)
        # nothing predicted the first row, nor what comes after the end of an episode
        predicted = ~samples.episode_starts[1:]
        weights = predicted * samples.importance_weights
        loss = (errors[1:] * weights).sum() / predicted.sum().clamp(min=1)
        if not th.isfinite(loss):
            raise ValueError(
                f"The world model's loss is {loss.item()}: lower world_model_learning_rate "
                f"(now {self.policy.world_model_learning_rate}) or scale the observations."
            )
        # a loaded optimizer brings its old learning rate along
        update_learning_rate(optimizer, self.policy.world_model_learning_rate)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.n_updates += 1
        errors = errors.detach()
        model.normalizer.update(errors[1:][predicted])
        paid = self._pay(samples, errors)
        self._log(loss, paid)
        return paid

    def _errors(self, samples: SequenceSamples) -> th.Tensor:
        """
        :param samples: (T, B) rows
        :return: (T, B) float, error of the prediction of each row's observation; without meaning at episode starts
        """
        model = self.world_model
        states = self._initial_states(samples)
        latents = model.encode(samples.observations)
        predictions, _ = model.expect(latents[:-1], samples.actions[:-1], states.model_hidden, samples.episode_starts[:-1])
        predictions = th.cat((states.predicted_latents.unsqueeze(0), predictions))
        return prediction_errors(latents, predictions)

    def _initial_states(self, samples: SequenceSamples) -> RecurrentState:
        return samples.initial_states or self.policy.initial_state(samples.rewards.shape[1])

    def _pay(self, samples: SequenceSamples, errors: th.Tensor) -> SequenceSamples:
        intrinsic_rewards = self.world_model.intrinsic_rewards(errors, samples.episode_starts)
        rewards = samples.rewards.clone()
        rewards[:-1] += intrinsic_rewards[1:]
        return samples._replace(rewards=rewards, intrinsic_rewards=intrinsic_rewards)

    def _log(self, loss: th.Tensor, paid: SequenceSamples) -> None:
        normalizer = self.world_model.normalizer
        scalars: dict[str, Any] = {
            "loss": loss,
            "n_updates": self.world_model.n_updates,
            "error_mean": normalizer.mean,
            "error_std": normalizer.std,
            "intrinsic_reward_mean": paid.intrinsic_rewards.mean(),
            "intrinsic_reward_max": paid.intrinsic_rewards.max(),
        }
        for name, value in scalars.items():
            self.logger.record(f"world_model/{name}", value.item())
