"""Latent world models for intrinsically motivated exploration, as an extension of Stable-Baselines3."""

from sb3_lwm.envs import AtariVecEnv, CoverageCallback  # also registers the labyrinths
from sb3_lwm.figures.embedding_callback import EmbeddingCallback
from sb3_lwm.intrinsic import IntrinsicRewardCallback
from sb3_lwm.lwm_dqn import LWMDQN, CnnPolicy, LatentWorldModelCallback, MlpPolicy, MultiInputPolicy
from sb3_lwm.replay import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer
from sb3_lwm.training_state import TrainingStateCallback
from sb3_lwm.version import __version__

__all__ = [
    "LWMDQN",
    "AtariVecEnv",
    "CnnPolicy",
    "CoverageCallback",
    "EmbeddingCallback",
    "IntrinsicRewardCallback",
    "LatentWorldModelCallback",
    "MlpPolicy",
    "MultiInputPolicy",
    "PrioritizedSequenceReplayBuffer",
    "SequenceReplayBuffer",
    "TrainingStateCallback",
    "__version__",
]
