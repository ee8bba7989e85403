"""The teacher of the world model: it trains it, and pays the intrinsic reward to every sampled batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import update_learning_rate
from tqdm import tqdm

from sb3_lwm.common.type_aliases import RecurrentState, SequenceSamples, map_observations
from sb3_lwm.lwm_dqn.policies import LWMPolicy
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer
from sb3_lwm.world_model import LatentWorldModel

if TYPE_CHECKING:
    from sb3_lwm.lwm_dqn.recurrent_dqn import RecurrentDQN


class LatentWorldModelCallback(BaseCallback):
    """
    Trains the world model of an :class:`~sb3_lwm.LWMDQN`, which adds this callback to every ``learn`` by itself.

    At the end of the warm-up it trains the encoder of images, then the predictor, on random play. Afterwards it makes one
    encoder update after each rollout, and one predictor update on each batch that the agent learns from (LWM, section 4.2),
    to which it adds the intrinsic reward.

    :param pretraining_updates: predictor updates after the warm-up
    :param pretraining_batch_size: windows in each of them
    :param pretraining_sequence_length: rows of each window
    :param encoder_pretraining_updates: encoder updates before them, where there are images
    :param verbose: 0: a progress bar of the pretraining on a terminal only, 1: always
    """

    model: "RecurrentDQN"

    def __init__(
        self,
        pretraining_updates: int = 1000,
        pretraining_batch_size: int = 64,
        pretraining_sequence_length: int = 100,
        encoder_pretraining_updates: int = 1000,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.pretraining_updates = pretraining_updates
        self.pretraining_batch_size = pretraining_batch_size
        self.pretraining_sequence_length = pretraining_sequence_length
        self.encoder_pretraining_updates = encoder_pretraining_updates
        self._is_pretrained = False

    @property
    def policy(self) -> LWMPolicy:
        """:return: the policy whose world model is trained"""
        return self.model.policy

    @property
    def world_model(self) -> LatentWorldModel:
        """:return: the model that is trained"""
        assert self.policy.world_model is not None
        return self.policy.world_model

    @property
    def replay_buffer(self) -> SequenceReplayBuffer:
        """:return: what it is trained on"""
        assert self.model.replay_buffer is not None
        return self.model.replay_buffer

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        # SB3 calls this just before train(), which starts under the same condition
        if self.model.num_timesteps <= self.model.learning_starts:
            return
        if not self._is_pretrained:
            if self.model._collected_rollout is None:
                self.model._collected_rollout = self.locals["num_collected_steps"] * self.training_env.num_envs
            self._pretrain()
        elif 0 < self._encoder_window() and self.replay_buffer.can_sample(self._encoder_window()):
            self.update_encoder()

    def get_training_state(self) -> dict[str, Any]:
        """:return: what it remembers beside the world model"""
        return {"_is_pretrained": self._is_pretrained}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """:param state: from :meth:`get_training_state`"""
        self._is_pretrained = state["_is_pretrained"]

    def _encoder_window(self) -> int:
        """:return: rows that an update of the encoder draws at once, 0 if there is none"""
        objectives = self.world_model.encoder_objectives().values()
        return max((objective.sequence_length for objective in objectives), default=0)

    def _pretrain(self) -> None:
        model = self.world_model
        encoder_updates = self.encoder_pretraining_updates - int(model.n_encoder_updates) if model.encoder_objectives() else 0
        updates = self.pretraining_updates - int(model.n_updates)
        if max(encoder_updates, updates) > 0 and not self._has_warm_up():
            # loaded in the middle of the pretraining, without a replay: a few rows are no random play to learn from
            return
        self._repeat(self.update_encoder, encoder_updates, "Pretraining the encoder", "world_model/encoder_loss")
        self._repeat(self._pretrain_predictor, updates, "Pretraining the world model", "world_model/loss")
        if updates > 0:
            self._restart_averages()
        self._is_pretrained = True

    def _has_warm_up(self) -> bool:
        longest = max(self.pretraining_sequence_length, self._encoder_window())
        return self.replay_buffer.written.sum() >= self.model.learning_starts and self.replay_buffer.can_sample(longest)

    def _restart_averages(self) -> None:
        # The errors that the pretraining began with are many times those it ends with, and nobody was paid for them.
        samples = self.replay_buffer.sample_windows(self.pretraining_batch_size, self.pretraining_sequence_length)
        with th.no_grad():
            errors, _ = self._errors(samples)
        self.world_model.normalizer.restart()
        self.world_model.normalizer.update(errors[1:], self.world_model.is_predicted(samples.episode_starts))

    def _repeat(self, update: Callable[[], object], n_updates: int, description: str, loss: str) -> None:
        """
        :param update: to call
        :param n_updates: how often, not at all if negative
        :param description: for the progress bar
        :param loss: name of the scalar that it logs, to be shown
        """
        if n_updates <= 0:
            return
        losses = []
        # without a terminal nobody sees a bar, but a log should show where the time went
        hidden = None if self.verbose == 0 else False
        with tqdm(desc=description, total=n_updates, unit="update", disable=hidden, mininterval=1.0) as bar:
            for _ in range(n_updates):
                # before it: a resumed pretraining has something left to do
                self.model.safe_point()
                update()
                losses.append(self.logger.name_to_value[loss])
                bar.update()
                bar.set_postfix({"loss": f"{losses[-1]:.4g}"}, refresh=False)
        if self.verbose > 0:
            part = -(-n_updates // 10)
            first, last = (sum(values) / part for values in (losses[:part], losses[-part:]))
            print(f"{description}: loss {first:.4g} in the first {part} updates, {last:.4g} in the last {part} of {n_updates}")

    def _pretrain_predictor(self) -> None:
        self.update(self.replay_buffer.sample_windows(self.pretraining_batch_size, self.pretraining_sequence_length))

    def update_encoder(self) -> None:
        """
        Make one update of the encoder of images, on windows that lie within one episode each (LWM, section 4.1).

        :raises NonFiniteError: if the loss or its gradient is not finite
        """
        self.policy.set_training_mode(True)
        total, scalars = th.zeros((), device=self.model.device), {}
        for key, objective in self.world_model.encoder_objectives().items():
            samples = self.replay_buffer.sample_windows(objective.batch_size, objective.sequence_length, within_episode=True)
            frames = samples.observations[key] if isinstance(samples.observations, dict) else samples.observations
            loss, logged = objective.loss(self.world_model.encoder.encoders[key], frames, samples.actions)
            total = total + loss
            scalars.update(logged)
        self._step(self.policy.encoder_optimizer, total, "encoder")
        self.world_model.n_encoder_updates += 1
        self._log({"encoder_loss": total, **{f"encoder_{name}": value for name, value in scalars.items()}})

    def relabel(self, samples: SequenceSamples) -> SequenceSamples:
        """
        Pay the intrinsic reward of the present model for every observation of a batch. No update is made.

        :param samples: (T, B) rows as the replay buffer gives them
        :return: the same with ``intrinsic_rewards``, and with ``rewards`` to which the intrinsic reward of the observation
            that the action led to is added
        """
        with th.no_grad():
            return self._pay(samples, self._errors(samples)[0])

    def update(self, samples: SequenceSamples) -> SequenceSamples:
        """
        Make one predictor update on a batch, then pay its intrinsic rewards.

        The errors are those of the model before the update, so that the batch need not be predicted twice.

        :param samples: (T, B) rows as the replay buffer gives them
        :return: as :meth:`relabel`
        :raises NonFiniteError: if the loss or its gradient is not finite
        """
        self.policy.set_training_mode(True)
        model = self.world_model
        model.encoder.update_statistics(map_observations(lambda part: part.flatten(0, 1), samples.observations))
        errors, losses = self._errors(samples)
        predicted = model.is_predicted(samples.episode_starts)
        weights = predicted * samples.importance_weights
        loss = (losses * weights).sum() / predicted.sum().clamp(min=1)
        self._step(self.policy.world_model_optimizer, loss, "world model")
        model.n_updates += 1
        model.normalizer.update(errors[1:], predicted)
        paid = self._pay(samples, errors)
        # what the actor expected of the first row is as old as the sequence
        rewards = paid.intrinsic_rewards[1:]
        self._log(
            {
                "loss": loss,
                "n_updates": model.n_updates,
                "error_mean": model.normalizer.mean,
                "error_std": model.normalizer.std,
                "intrinsic_reward_mean": rewards.mean(),
                "intrinsic_reward_std": rewards.std(correction=0),
                "intrinsic_reward_max": rewards.max(),
            }
        )
        return paid

    def _step(self, optimizer: th.optim.Optimizer, loss: th.Tensor, what: str) -> None:
        # a loaded optimizer brings its old learning rate along
        update_learning_rate(optimizer, self.policy.world_model_learning_rate)
        rate = self.policy.world_model_learning_rate
        remedy = f"lower world_model_learning_rate (now {rate}) or scale the observations"
        self.model.finite_guard.backward(optimizer, loss, what, remedy)
        optimizer.step()

    def _errors(self, samples: SequenceSamples) -> tuple[th.Tensor, th.Tensor]:
        return self.world_model.sequence_errors(samples, self._initial_states(samples))

    def _initial_states(self, samples: SequenceSamples) -> RecurrentState:
        return samples.initial_states or self.policy.initial_state(samples.rewards.shape[1])

    def _pay(self, samples: SequenceSamples, errors: th.Tensor) -> SequenceSamples:
        intrinsic_rewards = self.world_model.intrinsic_rewards(errors, samples.episode_starts)
        rewards = samples.rewards.clone()
        rewards[:-1] += intrinsic_rewards[1:]
        return samples._replace(rewards=rewards, intrinsic_rewards=intrinsic_rewards)

    def _log(self, scalars: dict[str, th.Tensor]) -> None:
        if self.model.reads_scalars:
            for name, value in scalars.items():
                self.logger.record(f"world_model/{name}", value.item())
