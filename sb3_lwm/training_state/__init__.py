"""Training states: folders with all data that a training needs to continue to the last bit after an interruption."""

from sb3_lwm.training_state.callback import TrainingStateCallback
from sb3_lwm.training_state.callback_state import all_callbacks
from sb3_lwm.training_state.files import SpoiltStateError
from sb3_lwm.training_state.training_states import TrainingStates, loaded_arguments, newest_state

__all__ = ["SpoiltStateError", "TrainingStateCallback", "TrainingStates", "all_callbacks", "loaded_arguments", "newest_state"]
