"""A training that survives: everything that it needs to go on to the last bit, in a folder."""

from sb3_lwm.training_state.callback import TrainingStateCallback
from sb3_lwm.training_state.files import SpoiltStateError

__all__ = ["SpoiltStateError", "TrainingStateCallback"]
