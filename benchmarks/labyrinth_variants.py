"""Policies for the ablations. The Zoo imports this module by ``--gym-packages``, which registers their names."""

from typing import Any

import torch as th

from sb3_lwm import LWMDQN, MlpPolicy
from sb3_lwm.common.gru import ResettableGRU, gru_memories
from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.world_model import LatentWorldModel
from sb3_lwm.world_model.normalizer import IntrinsicRewardNormalizer


class NeverResetGRU(ResettableGRU):
    """A GRU that keeps its hidden state from one episode to the next."""

    def forward(self, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
        """See :meth:`ResettableGRU.forward`; ``resets`` only mark final rows."""
        if len(inputs) == 1:
            return super().forward(inputs, hidden, th.zeros_like(resets))
        # The row before a start is the final observation of an episode, which is not an input of the actor. An additional
        # input opens the update gate there, which keeps the hidden state unchanged.
        is_final = th.cat((resets[1:], th.zeros_like(resets[:1]))).to(inputs.dtype).unsqueeze(-1)
        opens = th.zeros_like(self.cell.weight_ih[:, :1])
        opens[self.hidden_size : 2 * self.hidden_size] = 1e4
        weights = (th.cat((self.cell.weight_ih, opens), dim=1), self.cell.weight_hh, self.cell.bias_ih, self.cell.bias_hh)
        return gru_memories(th.cat((inputs, is_final), dim=-1), hidden, th.ones_like(is_final), *weights)


class RawErrors(IntrinsicRewardNormalizer):
    """Rewards that are the prediction errors themselves, without normalisation."""

    def forward(self, errors: th.Tensor) -> th.Tensor:
        """:return: The rewards, of the shape of the errors"""
        return self.scale * errors


class SurprisedByResets(LatentWorldModel):
    """
    World model that predicts the first observation of the next episode instead of the final observation, learns it, and adds
    its error to the reward of the last action, as with a replay without the ends of episodes, such as that of LWM's authors.
    """

    def sequence_errors(self, samples: SequenceSamples) -> tuple[th.Tensor, th.Tensor]:
        """See :meth:`LatentWorldModel.sequence_errors`."""
        observations = samples.observations
        assert isinstance(observations, th.Tensor)
        # the row before a start is a final one
        is_final = samples.episode_starts[1:].unsqueeze(-1)
        seen = th.cat((th.where(is_final, observations[1:], observations[:-1]), observations[-1:]))
        return super().sequence_errors(samples._replace(observations=seen))


class NeverResetPolicy(MlpPolicy):
    """Policy whose hidden states, of agent and world model, are not reset at the start of an episode."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        for module in self.modules():
            if isinstance(module, ResettableGRU):
                module.__class__ = NeverResetGRU


class RawErrorPolicy(MlpPolicy):
    """Policy whose intrinsic reward is the prediction error, without mean and standard deviation."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        assert self.world_model is not None
        self.world_model.normalizer.__class__ = RawErrors


class PaidResetsPolicy(MlpPolicy):
    """Policy whose world model predicts the observation of a reset, with an intrinsic reward for its error."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        assert self.world_model is not None
        self.world_model.__class__ = SurprisedByResets


for policy in (NeverResetPolicy, RawErrorPolicy, PaidResetsPolicy):
    LWMDQN.policy_aliases[policy.__name__] = policy
