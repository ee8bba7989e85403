"""Policies for the ablations; the Zoo imports this module by ``--gym-packages`` and then knows them by name."""

from typing import Any

import torch as th

from sb3_lwm import LWMDQN, MlpPolicy
from sb3_lwm.q_network import RecurrentQNetwork
from sb3_lwm.torch_layers import ResettableGRU
from sb3_lwm.world_model import LatentWorldModel
from sb3_lwm.world_model.normalizer import IntrinsicRewardNormalizer


class RewardBlindQNetwork(RecurrentQNetwork):
    """Is not told the intrinsic reward."""

    def remember(self, observations: Any, last_actions: Any, intrinsic_rewards: th.Tensor, *rest: Any) -> th.Tensor:
        """:return: as :meth:`RecurrentQNetwork.remember`"""
        return super().remember(observations, last_actions, th.zeros_like(intrinsic_rewards), *rest)


class NeverResetGRU(ResettableGRU):
    """Goes on from one episode into the next."""

    def forward(self, inputs: th.Tensor, hidden: th.Tensor, resets: th.Tensor) -> th.Tensor:
        """:return: as :meth:`ResettableGRU.forward`"""
        return super().forward(inputs, hidden, th.zeros_like(resets))


class RawErrors(IntrinsicRewardNormalizer):
    """Pays the prediction error as it is."""

    def forward(self, errors: th.Tensor) -> th.Tensor:
        """:return: same shape as the errors"""
        return self.scale * errors


class SurprisedByResets(LatentWorldModel):
    """
    Predicts the first observation of the next episode, and pays for it the action that ended the last one, in place of its
    final observation: what happens in a replay that knows no ends of episodes, as that of LWM's authors.
    """

    def is_predicted(self, episode_starts: th.Tensor) -> th.Tensor:
        """:return: as :meth:`LatentWorldModel.is_predicted`, everywhere"""
        return th.ones_like(episode_starts[1:])

    def intrinsic_rewards(self, errors: th.Tensor, episode_starts: th.Tensor) -> th.Tensor:
        """:return: as :meth:`LatentWorldModel.intrinsic_rewards`"""
        rewards = self.normalizer(errors)
        if rewards.dim() == 1:
            return rewards
        # the row before a start is a final one
        return th.cat((th.where(episode_starts[1:], rewards[1:], rewards[:-1]), rewards[-1:]))


class RewardBlindPolicy(MlpPolicy):
    """The intrinsic reward is paid, but no input of the Q-network."""

    def make_q_net(self) -> RecurrentQNetwork:
        """:return: a new Q-network"""
        network = super().make_q_net()
        # the same parameters
        network.__class__ = RewardBlindQNetwork
        return network


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
    """The observation of a reset is predicted, and its error is paid."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        assert self.world_model is not None
        self.world_model.__class__ = SurprisedByResets


for policy in (RewardBlindPolicy, NeverResetPolicy, RawErrorPolicy, PaidResetsPolicy):
    LWMDQN.policy_aliases[policy.__name__] = policy
