"""How the agent learns: Q-learning on sequences from the replay, with the intrinsic reward paid."""

from typing import TYPE_CHECKING

import numpy as np
import torch as th
from stable_baselines3.common.utils import polyak_update

from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.lwm_dqn.q_network import RecurrentQNetwork
from sb3_lwm.lwm_dqn.recurrent_dqn import RecurrentDQN
from sb3_lwm.lwm_dqn.td_learning import q_learning_errors, sequence_priorities
from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer

if TYPE_CHECKING:
    from sb3_lwm.lwm_dqn.callback import LatentWorldModelCallback


class SequenceDQN(RecurrentDQN):
    """
    The part of a recurrent DQN that learns. Base class of :class:`~sb3_lwm.LWMDQN`, which gives it its arguments.
    """

    q_net: RecurrentQNetwork  # type: ignore[assignment]
    q_net_target: RecurrentQNetwork  # type: ignore[assignment]
    double_q: bool
    value_rescaling: bool
    priority_max_weight: float
    _world_model_callback: "LatentWorldModelCallback | None"

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """
        Sample sequences, pay the intrinsic reward, and update the Q-network and its target.

        :param gradient_steps: number of updates
        :param batch_size: sequences in each
        :raises NonFiniteError: if a loss or a gradient is not finite; on a GPU up to ``READING_INTERVAL`` updates later
        """
        assert self.replay_buffer is not None
        if not self.replay_buffer.can_sample():
            # just loaded without its replay buffer: play until there is a whole sequence
            return
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            self._rate_new_sequences(batch_size)
            self._store_priorities()
            samples = self.replay_buffer.sample(batch_size)
            if self._world_model_callback is not None:
                samples = self._world_model_callback.update(samples)
            self.policy.set_training_mode(True)
            td_errors = self._td_errors(samples)
            loss = (td_errors.square().sum(dim=0) * samples.importance_weights).mean()
            self._update_q_network(loss)
            self._update_priorities(samples.sequence_ids, td_errors)
            losses.append(loss.detach())
        if self.reads_scalars:
            self.finite_guard.read()
            self._store_priorities()
            self.logger.record("train/loss", th.stack(losses).mean().item())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _update_q_network(self, loss: th.Tensor) -> None:
        remedy = f"lower learning_rate (now {self.learning_rate}) or the rewards"
        norm = self.finite_guard.backward(self.policy.optimizer, loss, "Q-network", remedy, self.max_grad_norm)
        if self.max_grad_norm is not None and self.reads_scalars:
            self.logger.record("train/grad_norm", norm.item())
        self.policy.optimizer.step()
        with th.no_grad():
            th._foreach_lerp_(list(self.q_net_target.parameters()), list(self.q_net.parameters()), self.tau)
        polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)

    def _td_errors(self, samples: SequenceSamples) -> th.Tensor:
        """
        :param samples: (T, B) rows with the intrinsic reward paid
        :return: (unroll, B) float with gradient, see :func:`~sb3_lwm.lwm_dqn.td_learning.q_learning_errors`
        """
        state = samples.initial_states or self.policy.initial_state(samples.rewards.shape[1])
        last_actions = th.cat((state.last_actions.unsqueeze(0), samples.actions[:-1]))
        q_values = self.q_net.q_values(samples, state.hidden, last_actions, self.burn_in)
        with th.no_grad():
            target_q_values = self.q_net_target.q_values(samples, state.hidden, last_actions, self.burn_in)
        return q_learning_errors(
            q_values, target_q_values, samples, self.gamma, self.n_steps, self.double_q, self.value_rescaling
        )

    def _rate_new_sequences(self, batch_size: int) -> None:
        """
        A new sequence enters the prioritised replay with its own TD error (R2D2, section 2.3). They wait for each other, since
        a batch takes a GPU hardly longer than one.

        :param batch_size: sequences that are rated at a time
        """
        if not isinstance(self.replay_buffer, PrioritizedSequenceReplayBuffer):
            return
        if self.replay_buffer.n_unrated() < batch_size and self.replay_buffer.weights.any():
            return
        sequence_ids = self.replay_buffer.unrated_sequences()
        for start in range(0, len(sequence_ids), batch_size):
            samples = self.replay_buffer.sequences(sequence_ids[start : start + batch_size])
            if self._world_model_callback is not None:
                samples = self._world_model_callback.relabel(samples)
            with th.no_grad():
                self._update_priorities(samples.sequence_ids, self._td_errors(samples))

    def _update_priorities(self, sequence_ids: np.ndarray, td_errors: th.Tensor) -> None:
        if isinstance(self.replay_buffer, PrioritizedSequenceReplayBuffer):
            self._new_priorities.append((sequence_ids, sequence_priorities(td_errors.detach(), self.priority_max_weight)))
