"""From observations to the latents that the world model predicts."""

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space, preprocess_obs
from torch import nn

from sb3_lwm.common.cnn import ImageCNN, in_chunks
from sb3_lwm.common.type_aliases import Observations
from sb3_lwm.world_model.normalizer import RunningStandardizer

# what NatureCNN's three convolutions leave something of
MIN_IMAGE_SIZE = 36


class VectorEncoder(nn.Module):
    """
    The latent is the observation itself: flattened, discrete values one-hot, real values standardised by their running
    mean and variance (LWM, section 5.1: the labyrinth needs no encoder).

    :param observation_space: Box (no image), Discrete, MultiDiscrete or MultiBinary
    """

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.latent_size = get_flattened_obs_dim(observation_space)
        self.is_binary = not isinstance(observation_space, spaces.Box)
        self.standardizer = None if self.is_binary else RunningStandardizer(self.latent_size)

    def _flatten(self, observations: th.Tensor) -> th.Tensor:
        # infinite values in a Box's bounds do not matter here; preprocess_obs turns discrete values into one-hot vectors
        return preprocess_obs(observations, self.observation_space).flatten(1)  # type: ignore[union-attr]

    def update_statistics(self, observations: th.Tensor) -> None:
        """:param observations: (N, *observation shape), a training batch"""
        if self.standardizer is not None:
            self.standardizer.update(self._flatten(observations))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: (N, *observation shape)
        :return: (N, latent_size) float32
        """
        flat = self._flatten(observations)
        return flat if self.standardizer is None else self.standardizer(flat)


class ImageEncoder(nn.Module):
    """
    A convolutional embedding of images.

    :param observation_space: channels-first images, at least 36 pixels wide and high
    :param latent_size: size of the embedding
    :raises ValueError: if the images are smaller
    """

    is_binary = False

    def __init__(self, observation_space: spaces.Box, latent_size: int) -> None:
        super().__init__()
        if min(observation_space.shape[-2:]) < MIN_IMAGE_SIZE:
            raise ValueError(
                f"Images of shape {observation_space.shape} are too small for the convolutional encoder, which needs "
                f"{MIN_IMAGE_SIZE} pixels on each side: enlarge them, or flatten them to real values."
            )
        self.observation_space = observation_space
        self.latent_size = latent_size
        self.cnn = ImageCNN(observation_space, features_dim=latent_size, is_activated=False)

    def update_statistics(self, observations: th.Tensor) -> None:
        """Images have no running statistics."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: (N, C, H, W) uint8
        :return: (N, latent_size) float32
        """
        return in_chunks(lambda images: self.cnn(preprocess_obs(images, self.observation_space)), observations)


class LatentEncoder(nn.Module):
    """
    One encoder for each part of the observation space, side by side.

    :param observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these
    :param image_latent_size: size of the embedding of an image
    """

    binary: th.Tensor

    def __init__(self, observation_space: spaces.Space, image_latent_size: int = 32) -> None:
        super().__init__()
        self.is_dict = isinstance(observation_space, spaces.Dict)
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"observation": observation_space}
        encoders = {
            key: ImageEncoder(space, image_latent_size)
            if is_image_space(space) and isinstance(space, spaces.Box)
            else VectorEncoder(space)
            for key, space in parts.items()
        }
        self.encoders = nn.ModuleDict(encoders)
        # (latent_size,) which dimensions are 0 or 1: their prediction is a probability
        flags = [encoder.is_binary for encoder in encoders.values() for _ in range(encoder.latent_size)]
        self.register_buffer("binary", th.tensor(flags), persistent=False)
        self.latent_size = len(self.binary)

    @property
    def image_keys(self) -> list[str]:
        """:return: keys of the parts of the observation that are images"""
        return [key for key, encoder in self.encoders.items() if isinstance(encoder, ImageEncoder)]

    def _parts(self, observations: Observations) -> dict[str, th.Tensor]:
        return observations if isinstance(observations, dict) else {"observation": observations}

    def update_statistics(self, observations: Observations) -> None:
        """:param observations: (N, *observation shape), a training batch"""
        for key, part in self._parts(observations).items():
            encoder = self.encoders[key]
            assert isinstance(encoder, ImageEncoder | VectorEncoder)
            encoder.update_statistics(part)

    def forward(self, observations: Observations) -> th.Tensor:
        """
        :param observations: (N, *observation shape)
        :return: (N, latent_size) float32
        """
        parts = self._parts(observations)
        return th.cat([encoder(parts[key]) for key, encoder in self.encoders.items()], dim=-1)
