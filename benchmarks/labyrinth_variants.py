"""Policies for the ablations; the Zoo imports this module by ``--gym-packages`` and then knows them by name."""

from typing import Any

import torch as th

from sb3_lwm import LWMDQN, MlpPolicy
from sb3_lwm.q_network import RecurrentQNetwork
from sb3_lwm.torch_layers import ResettableGRU
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


for policy in (RewardBlindPolicy, NeverResetPolicy, RawErrorPolicy):
    LWMDQN.policy_aliases[policy.__name__] = policy
