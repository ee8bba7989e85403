"""Replay buffers: sequences of transitions, the storage of their observations, priorities, and the memory they need."""

from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

__all__ = ["PrioritizedSequenceReplayBuffer", "SequenceReplayBuffer"]
