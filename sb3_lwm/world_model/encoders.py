"""Encoders that map observations to the latents that the world model predicts."""

from collections.abc import Mapping
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from torch import nn

from sb3_lwm.common.cnn import GridCNN, ImageCNN, cnn_for, in_chunks
from sb3_lwm.common.observations import is_binary, is_image, module_names, preprocess
from sb3_lwm.common.type_aliases import Observations
from sb3_lwm.world_model.normalizer import RunningStandardizer


class VectorEncoder(nn.Module):
    """
    Encoder whose latent is the observation itself: flattened, discrete values one-hot, real values standardised by their
    running mean and variance (LWM, section 5.1: the labyrinth needs no encoder). Observations of 0 and 1 are not standardised.

    :param observation_space: The observation space, Box, Discrete, MultiDiscrete or MultiBinary
    :param normalize_images: Whether pixels are divided by 255 before they are standardised
    """

    def __init__(self, observation_space: spaces.Space, normalize_images: bool = True) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.normalize_images = normalize_images
        self.latent_size = get_flattened_obs_dim(observation_space)
        self.is_binary = is_binary(observation_space)
        self.standardizer = None if self.is_binary else RunningStandardizer(self.latent_size)

    def _flatten(self, observations: th.Tensor) -> th.Tensor:
        # preprocess makes one-hot vectors of discrete values; it accepts infinite bounds of a Box
        return preprocess(observations, self.observation_space, self.normalize_images).flatten(1)  # type: ignore[union-attr]

    def update_statistics(self, observations: th.Tensor) -> None:
        """:param observations: The observations of a training batch, (N, *observation shape)"""
        if self.standardizer is not None:
            self.standardizer.update(self._flatten(observations))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: The observations, (N, *observation shape)
        :return: The latents, (N, latent_size) float32
        """
        flat = self._flatten(observations)
        return flat if self.standardizer is None else self.standardizer(flat)


class ImageEncoder(nn.Module):
    """
    A convolutional embedding of images.

    :param observation_space: The space of the images, channels first
    :param latent_size: The size of the embedding
    :param normalize_images: Whether pixels are divided by 255
    :param encoder_class: The class of the network, an SB3 features extractor whose ``features_dim`` is the size of the
        embedding; by default :class:`~sb3_lwm.common.cnn.ImageCNN`, or :class:`~sb3_lwm.common.cnn.GridCNN` under 36 pixels
    :param encoder_kwargs: The keyword arguments of ``encoder_class``
    """

    is_binary = False

    def __init__(
        self,
        observation_space: spaces.Box,
        latent_size: int,
        normalize_images: bool = True,
        encoder_class: type[BaseFeaturesExtractor] | None = None,
        encoder_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.normalize_images = normalize_images
        encoder_class = encoder_class or cnn_for(observation_space)
        kwargs: dict[str, Any] = {"features_dim": latent_size}
        if issubclass(encoder_class, ImageCNN | GridCNN):
            kwargs["is_activated"] = False
        if not (normalize_images and is_image(observation_space)) and issubclass(encoder_class, NatureCNN | GridCNN):
            # the numbers are not pixels that were divided by 255
            kwargs["normalized_image"] = True
        self.cnn = encoder_class(observation_space, **{**kwargs, **(encoder_kwargs or {})})
        self.latent_size = self.cnn.features_dim

    def update_statistics(self, observations: th.Tensor) -> None:
        """Do nothing, since images have no running statistics."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: The images, (N, C, H, W), uint8 unless they are normalised
        :return: The latents, (N, latent_size) float32
        """
        return in_chunks(
            lambda images: self.cnn(preprocess(images, self.observation_space, self.normalize_images)), observations
        )


class LatentEncoder(nn.Module):
    """
    One encoder for each part of the observation space, side by side.

    :param observation_space: The observation space, Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these
    :param image_latent_size: The size of the embedding of an image
    :param flatten_images: Whether images are flattened to vectors, as by SB3's FlattenExtractor
    :param normalize_images: Whether pixels are divided by 255; if False every Box of three dimensions is an image
    :param encoder_class: The class of the encoder of images, see :class:`ImageEncoder`. If it is given, every Box of three
        dimensions is an image, whatever its values and ``flatten_images``.
    :param encoder_kwargs: The keyword arguments of the encoder of images
    :raises ValueError: If there is an ``encoder_class`` or ``encoder_kwargs`` and no image
    """

    binary: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        image_latent_size: int = 32,
        flatten_images: bool = False,
        normalize_images: bool = True,
        encoder_class: type[BaseFeaturesExtractor] | None = None,
        encoder_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"observation": observation_space}
        self.names = module_names(parts)
        self.encoders = nn.ModuleDict()
        flatten_images = flatten_images and encoder_class is None
        for key, space in parts.items():
            encoder: ImageEncoder | VectorEncoder
            if not flatten_images and is_image(space, normalize_images and encoder_class is None):
                assert isinstance(space, spaces.Box)
                encoder = ImageEncoder(space, image_latent_size, normalize_images, encoder_class, encoder_kwargs)
            else:
                encoder = VectorEncoder(space, normalize_images)
            self.encoders[self.names[key]] = encoder
        if (encoder_class is not None or encoder_kwargs) and not self.image_keys:
            raise ValueError(
                f"encoder_class={encoder_class} and encoder_kwargs={encoder_kwargs} are for images, and there are none in "
                f"{observation_space}: leave them out, or use CnnPolicy."
            )
        # (latent_size,) bool, the dimensions with values 0 or 1, whose prediction is a probability
        flags = [part.is_binary for part in self.parts().values() for _ in range(part.latent_size)]
        self.register_buffer("binary", th.tensor(flags), persistent=False)
        self.latent_size = len(self.binary)

    def parts(self) -> dict[str, "ImageEncoder | VectorEncoder"]:
        """:return: The encoder of each part of the observation by its key; a single part has the key ``"observation"``"""
        return {key: self.encoders[name] for key, name in self.names.items()}  # type: ignore[misc]

    @property
    def image_keys(self) -> list[str]:
        """:return: The keys of the parts of the observation that are images"""
        return [key for key, encoder in self.parts().items() if isinstance(encoder, ImageEncoder)]

    def _observations(self, observations: Observations) -> dict[str, th.Tensor]:
        return observations if isinstance(observations, dict) else {"observation": observations}

    def update_statistics(self, observations: Observations) -> None:
        """:param observations: The observations of a training batch, (N, *observation shape)"""
        by_key = self._observations(observations)
        for key, encoder in self.parts().items():
            encoder.update_statistics(by_key[key])

    def forward(self, observations: Observations) -> th.Tensor:
        """
        :param observations: The observations, (N, *observation shape)
        :return: The latents, (N, latent_size) float32
        """
        by_key = self._observations(observations)
        latents = [encoder(by_key[key]) for key, encoder in self.parts().items()]
        # th.cat would copy a single tensor
        return latents[0] if len(latents) == 1 else th.cat(latents, dim=-1)
