"""The intrinsic reward of the latent world model for the other algorithms of Stable-Baselines3."""

from sb3_lwm.intrinsic.callback import IntrinsicRewardCallback

__all__ = ["IntrinsicRewardCallback"]
