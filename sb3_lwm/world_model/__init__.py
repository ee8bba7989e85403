"""The latent world model: encoder, recurrent predictor, intrinsic reward, and their training. Torch only."""

from sb3_lwm.world_model.model import LatentWorldModel, prediction_errors
from sb3_lwm.world_model.trainer import WorldModelTrainer

__all__ = ["LatentWorldModel", "WorldModelTrainer", "prediction_errors"]
