"""The convolutions of images, which the Q-network and the world model share."""

from collections.abc import Callable

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

# The number of images whose convolutions stay in a CPU's caches, approximately
CHUNK_SIZE = 125


class ImageCNN(NatureCNN):
    """
    SB3's NatureCNN with pixels in [-1, 1) (``frame / 128 - 1``: LWM, section 5), laid out for speed: channels last.

    :param observation_space: channels-first images
    :param features_dim: size of the features
    :param normalized_image: whether the space's bounds are not those of pixels
    :param is_activated: whether a ReLU ends it; the embedding of the world model has none
    """

    # bfloat16 inside; pays on GPUs only
    mixed_precision = False

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 512, normalized_image: bool = False, is_activated: bool = True
    ) -> None:
        super().__init__(observation_space, features_dim, normalized_image)
        if not is_activated:
            self.linear = nn.Sequential(self.linear[0])
        self.cnn.to(memory_format=th.channels_last)  # type: ignore[call-overload]
        for layer in self.cnn:
            if isinstance(layer, nn.ReLU):
                layer.inplace = True

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: (N, C, H, W) float in [0, 1], as SB3's ``preprocess_obs`` gives them
        :return: (N, features_dim) float
        """
        with th.autocast(observations.device.type, dtype=th.bfloat16, enabled=self.mixed_precision):
            return super().forward(observations * (255 / 128) - 1.0).float()


def in_chunks(function: Callable[[th.Tensor], th.Tensor], images: th.Tensor) -> th.Tensor:
    """
    Apply a function to images: on a CPU some at a time, which is twice as fast as all at once, on a GPU all at once.

    :param function: from (n, ...) to (n, F), each image by itself
    :param images: (N, ...)
    :return: (N, F)
    """
    if images.device.type != "cpu" or len(images) <= CHUNK_SIZE:
        return function(images)
    return th.cat([function(chunk) for chunk in images.split(CHUNK_SIZE)])
