"""Everything that is stored: sequences of transitions, their observations and priorities, and the memory they need."""

from sb3_lwm.replay.prioritized_buffer import PrioritizedSequenceReplayBuffer
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

__all__ = ["PrioritizedSequenceReplayBuffer", "SequenceReplayBuffer"]
