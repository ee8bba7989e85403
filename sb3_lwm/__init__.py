"""Latent world models for intrinsically motivated exploration, as an extension of Stable-Baselines3."""

from sb3_lwm.buffers import SequenceReplayBuffer
from sb3_lwm.callbacks import LatentWorldModelCallback
from sb3_lwm.embedding_callback import EmbeddingCallback
from sb3_lwm.envs import AtariVecEnv  # registers the labyrinths too
from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_lwm.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.training_state import TrainingStateCallback
from sb3_lwm.version import __version__

__all__ = [
    "LWMDQN",
    "AtariVecEnv",
    "CnnPolicy",
    "EmbeddingCallback",
    "LatentWorldModelCallback",
    "MlpPolicy",
    "MultiInputPolicy",
    "PrioritizedSequenceReplayBuffer",
    "SequenceReplayBuffer",
    "TrainingStateCallback",
    "__version__",
]
