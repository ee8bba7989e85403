"""Policies for the ablations; the Zoo imports this module by ``--gym-packages`` and then knows them by name."""

from typing import Any

import torch as th

from sb3_lwm import LWMDQN, MlpPolicy
from sb3_lwm.common.gru import ResettableGRU, gru_memories
from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.world_model import LatentWorldModel
from sb3_lwm.world_model.normalizer import IntrinsicRewardNormalizer


class NeverResetGRU(ResettableGRU):
    """Keeps its memory from one episode to the next."""

    def forward(self, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
        """:return: as :meth:`ResettableGRU.forward`"""
        if len(inputs) == 1:
            return super().forward(inputs, hidden, th.zeros_like(resets))
        # The row before a start is the final observation of an episode, which the actor never sees. One more input opens
        # the update gate there, and the memory stays as it is.
        is_final = th.cat((resets[1:], th.zeros_like(resets[:1]))).to(inputs.dtype).unsqueeze(-1)
        opens = th.zeros_like(self.cell.weight_ih[:, :1])
        opens[self.hidden_size : 2 * self.hidden_size] = 1e4
        weights = (th.cat((self.cell.weight_ih, opens), dim=1), self.cell.weight_hh, self.cell.bias_ih, self.cell.bias_hh)
        return gru_memories(th.cat((inputs, is_final), dim=-1), hidden, th.ones_like(is_final), *weights)


class RawErrors(IntrinsicRewardNormalizer):
    """The reward is the prediction error as it is."""

    def forward(self, errors: th.Tensor) -> th.Tensor:
        """:return: same shape as the errors"""
        return self.scale * errors


class SurprisedByResets(LatentWorldModel):
    """
    Predicts the first observation of the next episode from the last action of this one, learns it, and rewards the action for
    its error, in place of the final observation: as a replay without the ends of episodes does, such as that of LWM's authors.
    """

    def sequence_errors(self, samples: SequenceSamples) -> tuple[th.Tensor, th.Tensor]:
        """:return: as :meth:`LatentWorldModel.sequence_errors`"""
        observations = samples.observations
        assert isinstance(observations, th.Tensor)
        # the row before a start is a final one
        is_final = samples.episode_starts[1:].unsqueeze(-1)
        seen = th.cat((th.where(is_final, observations[1:], observations[:-1]), observations[-1:]))
        return super().sequence_errors(samples._replace(observations=seen))


class NeverResetPolicy(MlpPolicy):
    """The memories of agent and world model are not reset where an episode begins."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        for module in self.modules():
            if isinstance(module, ResettableGRU):
                module.__class__ = NeverResetGRU


class RawErrorPolicy(MlpPolicy):
    """The intrinsic reward is the prediction error, without mean and standard deviation."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        assert self.world_model is not None
        self.world_model.normalizer.__class__ = RawErrors


class PaidResetsPolicy(MlpPolicy):
    """The observation of a reset is predicted, and its error is an intrinsic reward."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        assert self.world_model is not None
        self.world_model.__class__ = SurprisedByResets


for policy in (NeverResetPolicy, RawErrorPolicy, PaidResetsPolicy):
    LWMDQN.policy_aliases[policy.__name__] = policy
