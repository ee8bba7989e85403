"""The latent world model: encoder, recurrent predictor, intrinsic reward. Torch only."""

from sb3_lwm.world_model.model import LatentWorldModel, prediction_errors

__all__ = ["LatentWorldModel", "prediction_errors"]
