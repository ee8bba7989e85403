"""Convolutional networks for images, for the Q-network and the world model."""

from collections.abc import Callable

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from torch import nn

from sb3_lwm.common.observations import is_image, module_names
from sb3_lwm.common.type_aliases import Observations

# The approximate number of images whose convolutions fit into a CPU's caches
CHUNK_SIZE = 125
# The three convolutions of NatureCNN need images of at least this size
MIN_IMAGE_SIZE = 36


class ImageCNN(NatureCNN):
    """
    SB3's NatureCNN with pixels in [-1, 1) (``frame / 128 - 1``: LWM, section 5), in the memory format channels last, which
    is faster.

    :param observation_space: The space of the images, channels first
    :param features_dim: The size of the features
    :param normalized_image: Whether the environment has normalised the images itself; they are then not rescaled
    :param is_activated: Whether the last layer is a ReLU; not in the embedding of the world model
    """

    # Whether to use bfloat16 inside, which is faster on GPUs only
    mixed_precision = False

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 512, normalized_image: bool = False, is_activated: bool = True
    ) -> None:
        super().__init__(observation_space, features_dim, normalized_image)
        self.normalized_image = normalized_image
        if not is_activated:
            self.linear = nn.Sequential(self.linear[0])
        self.cnn.to(memory_format=th.channels_last)  # type: ignore[call-overload]
        for layer in self.cnn:
            if isinstance(layer, nn.ReLU):
                layer.inplace = True

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: The images, (N, C, H, W) float, in [0, 1] after SB3's ``preprocess_obs``, or normalised otherwise
        :return: The features, (N, features_dim) float
        """
        with th.autocast(observations.device.type, dtype=th.bfloat16, enabled=self.mixed_precision):
            return super().forward(observations if self.normalized_image else _centre(observations)).float()


class GridCNN(BaseFeaturesExtractor):
    """
    Three 3x3 convolutions with padding, for images of any size, such as the cells of a grid world. The first one keeps the
    size, the others halve it.

    :param observation_space: The space of the images, a Box of shape (C, H, W)
    :param features_dim: The size of the features
    :param normalized_image: Whether the environment has normalised the images itself; they are then not rescaled
    :param is_activated: Whether the last layer is a ReLU; not in the embedding of the world model
    :raises ValueError: If the observations are not images
    """

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 128, normalized_image: bool = False, is_activated: bool = True
    ) -> None:
        if not is_image(observation_space, normalize_images=not normalized_image):
            raise ValueError(
                f"{observation_space} has no pixels, unsigned bytes from 0 to 255 in three dimensions: for other images "
                "(channels, height, width) pass normalize_images=False in policy_kwargs, or use MlpPolicy."
            )
        super().__init__(observation_space, features_dim)
        self.normalized_image = normalized_image
        channels, height, width = observation_space.shape
        layers: list[nn.Module] = []
        for size, stride in ((32, 1), (64, 2), (64, 2)):
            layers += [nn.Conv2d(channels, size, kernel_size=3, stride=stride, padding=1), nn.ReLU()]
            channels, height, width = size, -(-height // stride), -(-width // stride)
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        self.linear = nn.Sequential(
            nn.Linear(channels * height * width, features_dim), nn.ReLU() if is_activated else nn.Identity()
        )

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: The images, (N, C, H, W) float, in [0, 1] after SB3's ``preprocess_obs``, or normalised otherwise
        :return: The features, (N, features_dim) float
        """
        return self.linear(self.cnn(observations if self.normalized_image else _centre(observations)))


class DictExtractor(CombinedExtractor):
    """
    SB3's CombinedExtractor, also for images under 36 pixels, which get a :class:`GridCNN`, and for keys of any name.

    :param observation_space: The Dict space
    :param cnn_output_dim: The number of features of each image
    :param normalized_image: Whether the environment has normalised the images itself; they are then not rescaled
    """

    def __init__(self, observation_space: spaces.Dict, cnn_output_dim: int = 256, normalized_image: bool = False) -> None:
        # not CombinedExtractor's constructor, which would build the extractors that are replaced here
        super(CombinedExtractor, self).__init__(observation_space, features_dim=1)
        self.names = module_names(observation_space.spaces)
        self.extractors = nn.ModuleDict()
        self._features_dim = 0
        for key, space in observation_space.spaces.items():
            extractor: nn.Module = nn.Flatten()
            size = get_flattened_obs_dim(space)
            if is_image(space, normalize_images=not normalized_image):
                assert isinstance(space, spaces.Box)
                size = cnn_output_dim
                extractor = (GridCNN if is_small(space) else NatureCNN)(space, cnn_output_dim, normalized_image)
            self.extractors[self.names[key]] = extractor
            self._features_dim += size

    def forward(self, observations: Observations) -> th.Tensor:
        """
        :param observations: The preprocessed observations of each key, (N, ...) float
        :return: The features, (N, features_dim) float
        """
        assert isinstance(observations, dict)
        return th.cat([self.extractors[name](observations[key]) for key, name in self.names.items()], dim=1)


def is_small(space: spaces.Space) -> bool:
    """
    :param space: The space of an observation
    :return: Whether its observations are images (C, H, W) that are too small for NatureCNN
    """
    return isinstance(space, spaces.Box) and len(space.shape) == 3 and min(space.shape[1:]) < MIN_IMAGE_SIZE


def cnn_for(space: spaces.Space) -> type[ImageCNN] | type[GridCNN]:
    """
    :param space: The space of images, channels first
    :return: The class of convolutional networks for images of this size
    """
    return GridCNN if is_small(space) else ImageCNN


def _centre(images: th.Tensor) -> th.Tensor:
    """Map pixels that were divided by 255 to [-1, 1)."""
    return images * (255 / 128) - 1.0


def in_chunks(function: Callable[[th.Tensor], th.Tensor], images: th.Tensor) -> th.Tensor:
    """
    Apply a function to images: on a CPU in chunks, which is twice as fast as all at once, on a GPU all at once.

    :param function: The function from (n, ...) to (n, F), which treats each image independently
    :param images: The images, (N, ...)
    :return: The results, (N, F)
    """
    if images.device.type != "cpu" or len(images) <= CHUNK_SIZE:
        return function(images)
    return th.cat([function(chunk) for chunk in images.split(CHUNK_SIZE)])
