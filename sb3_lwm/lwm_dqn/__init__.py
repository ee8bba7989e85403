"""The algorithm LWM-DQN."""

from sb3_lwm.lwm_dqn.callback import LatentWorldModelCallback
from sb3_lwm.lwm_dqn.lwm_dqn import LWMDQN
from sb3_lwm.lwm_dqn.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["LWMDQN", "CnnPolicy", "LatentWorldModelCallback", "MlpPolicy", "MultiInputPolicy"]
