"""Training objectives of the encoder of images: W-MSE, inverse dynamics, contrastive prediction, or none."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from torch import nn
from torch.nn import functional

from sb3_lwm.common.cnn import MIN_IMAGE_SIZE
from sb3_lwm.world_model.actions import ActionEncoder
from sb3_lwm.world_model.augmentation import random_shift
from sb3_lwm.world_model.whitening import whiten

# LWM, section 5.2, for images of 84 x 84 pixels
MAX_SHIFT = 4

# A function from (N, C, H, W) frames to (N, Z) float embeddings
Encoder = Callable[[th.Tensor], th.Tensor]


class EncoderObjective(nn.Module, ABC):
    """
    A loss for the encoder. Layers that only the loss needs are parameters of the objective.

    :param latent_size: The size of a latent, ``Z``
    :param actions: The encoder of the actions
    :param batch_size: The number of windows of an update
    :param sequence_length: The number of rows of a window, ``T``
    :raises ValueError: If ``batch_size`` is less than 1 or ``sequence_length`` less than 2
    """

    # whether the objective has a loss
    trains_encoder: ClassVar[bool] = True

    def __init__(self, latent_size: int, actions: ActionEncoder, batch_size: int, sequence_length: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if sequence_length < 2:
            raise ValueError(f"sequence_length must be at least 2, got {sequence_length}: every objective compares frames.")
        self.latent_size = latent_size
        self.actions = actions
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        # an agent replaces it with its own generator; None for PyTorch's global one
        self.generator: th.Generator | None = None

    @abstractmethod
    def loss(self, encoder: Encoder, frames: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """
        Compute the loss. Every window must lie within one episode, which the objective does not check.

        :param encoder: The encoder, from (N, C, H, W) frames to (N, Z) float embeddings, which gets the gradient
        :param frames: Consecutive frames, (T, B, C, H, W) uint8
        :param actions: The actions taken at each frame, (T, B, *action shape); those of the last row are not used
        :return: The loss, float of shape (), and the values to log, float of shape () without gradient
        :raises ValueError: If ``T`` is not ``sequence_length``
        """

    def _check(self, frames: th.Tensor) -> None:
        if len(frames) != self.sequence_length:
            raise ValueError(f"{type(self).__name__} needs windows of {self.sequence_length} rows, got {len(frames)}.")


class WMSEObjective(EncoderObjective):
    """
    Loss that brings frames close in time close together in the latent space (LWM, section 4.1; Ermolov et al. 2021, W-MSE).

    Each window gives a pair, its first frame and the one ``k`` steps later, ``k`` uniform in ``[1, sequence_length)``. Both
    frames are shifted, each by its own random number of pixels on either axis. All embeddings are whitened together; the loss
    is the squared distance between the two of a pair, averaged over pairs and dimensions: 0 for equal embeddings, about 2
    for unrelated ones.

    :param latent_size: The size of a latent, ``Z``
    :param actions: The encoder of the actions, not used
    :param batch_size: The number of pairs
    :param sequence_length: 1 + the largest distance in time between the frames of a pair
    :param max_shift: The largest shift in pixels; by default 4, or 0 for images under 36 pixels, which may be grid cells
    """

    def __init__(
        self,
        latent_size: int,
        actions: ActionEncoder,
        batch_size: int = 256,
        sequence_length: int = 3,
        max_shift: int | None = None,
    ) -> None:
        super().__init__(latent_size, actions, batch_size, sequence_length)
        self.max_shift = max_shift

    def loss(self, encoder: Encoder, frames: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """See :meth:`EncoderObjective.loss`; logs ``ill_conditioned``, 1 if whitening the embeddings needed noise."""
        self._check(frames)
        windows = th.arange(frames.shape[1], device=frames.device)
        steps = th.randint(1, self.sequence_length, windows.shape, generator=self.generator, device=frames.device)
        pairs = th.cat((frames[0], frames[steps, windows]))
        max_shift = self.max_shift
        if max_shift is None:
            max_shift = MAX_SHIFT if min(frames.shape[-2:]) >= MIN_IMAGE_SIZE else 0
        whitened, ill_conditioned = whiten(encoder(random_shift(pairs, max_shift, self.generator)))
        first, second = whitened.chunk(2)
        return functional.mse_loss(first, second), {"ill_conditioned": ill_conditioned.float()}


class InverseDynamicsObjective(EncoderObjective):
    """
    Classification of the action between two consecutive frames: ``(z_t, z_{t+1}) -> ReLU -> Linear, ReLU, Linear``,
    cross-entropy (LWM, section 5.2, the encoder of Pathak et al. 2017).

    :param latent_size: The size of a latent, ``Z``
    :param actions: The encoder of the actions
    :param batch_size: The number of windows
    :param sequence_length: The number of rows of a window, in which every two consecutive rows are a pair
    :param hidden_size: The size of the classifier's hidden layer
    """

    def __init__(
        self, latent_size: int, actions: ActionEncoder, batch_size: int = 256, sequence_length: int = 2, hidden_size: int = 128
    ) -> None:
        super().__init__(latent_size, actions, batch_size, sequence_length)
        if not isinstance(actions.action_space, spaces.Discrete):
            raise ValueError(
                f"encoder_objective='inverse-dynamics' classifies Discrete actions, not those of {actions.action_space}: use "
                "'w-mse' or 'cpc'."
            )
        self.classifier = nn.Sequential(
            nn.ReLU(), nn.Linear(2 * latent_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, actions.size)
        )

    def loss(self, encoder: Encoder, frames: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """See :meth:`EncoderObjective.loss`; logs the ``accuracy`` of the classifier."""
        self._check(frames)
        latents = encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        logits = self.classifier(th.cat((latents[:-1], latents[1:]), dim=-1)).flatten(0, 1)
        return _cross_entropy(logits, actions[:-1].flatten())


class CPCObjective(EncoderObjective):
    """
    Contrastive predictive coding: the next embedding is selected from those of the batch (LWM, section 5.2; van den Oord et
    al. 2018).

    A GRU over ``(ReLU(z_t), one-hot a_t)`` and a linear layer predict ``z_{t+1}``; its dot products with all ``T * B``
    embeddings of the batch are the logits of a cross-entropy. The last row of a window has no prediction.

    :param latent_size: The size of a latent, ``Z``
    :param actions: The encoder of the actions
    :param batch_size: The number of windows
    :param sequence_length: The number of rows of a window
    :param gru_hidden_size: The size of the GRU's hidden state
    """

    def __init__(
        self,
        latent_size: int,
        actions: ActionEncoder,
        batch_size: int = 32,
        sequence_length: int = 32,
        gru_hidden_size: int = 512,
    ) -> None:
        super().__init__(latent_size, actions, batch_size, sequence_length)
        self.memory = nn.GRU(latent_size + actions.size, gru_hidden_size)
        self.head = nn.Linear(gru_hidden_size, latent_size)

    def loss(self, encoder: Encoder, frames: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """See :meth:`EncoderObjective.loss`; logs the ``accuracy``, how often the correct embedding has the largest logit."""
        self._check(frames)
        candidates = encoder(frames.flatten(0, 1))
        latents = candidates.unflatten(0, frames.shape[:2])
        one_hot = self.actions(actions[:-1]).to(latents.dtype)
        memories, _ = self.memory(th.cat((latents[:-1].relu(), one_hot), dim=-1))
        logits = self.head(memories).flatten(0, 1) @ candidates.t()
        # the embedding after that of row (t, b) is B candidates later
        targets = th.arange(frames.shape[1], len(candidates), device=logits.device)
        return _cross_entropy(logits, targets)


class RandomObjective(EncoderObjective):
    """
    No objective: the encoder keeps its random initial weights (LWM, section 5.2).

    :param latent_size: The size of a latent, ``Z``, not used
    :param actions: The encoder of the actions, not used
    :param batch_size: The number of windows, not used
    :param sequence_length: The number of rows of a window, not used
    """

    trains_encoder = False

    def __init__(self, latent_size: int, actions: ActionEncoder, batch_size: int = 256, sequence_length: int = 2) -> None:
        super().__init__(latent_size, actions, batch_size, sequence_length)

    def loss(self, encoder: Encoder, frames: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """:raises RuntimeError: Always"""
        raise RuntimeError("A random encoder has no loss: check trains_encoder before an update.")


OBJECTIVES: dict[str, type[EncoderObjective]] = {
    "w-mse": WMSEObjective,
    "inverse-dynamics": InverseDynamicsObjective,
    "cpc": CPCObjective,
    "random": RandomObjective,
}


def make_objective(name: str, latent_size: int, actions: ActionEncoder, **kwargs: Any) -> EncoderObjective:
    """
    :param name: A key of ``OBJECTIVES``
    :param latent_size: The size of a latent, ``Z``
    :param actions: The encoder of the actions
    :param kwargs: The other keyword arguments of the objective, such as ``batch_size`` and ``sequence_length``
    :return: The objective
    :raises ValueError: If no objective has this name
    """
    if name not in OBJECTIVES:
        raise ValueError(f"Unknown objective of the encoder '{name}': choose one of {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name](latent_size, actions, **kwargs)


def _cross_entropy(logits: th.Tensor, targets: th.Tensor) -> tuple[th.Tensor, dict[str, th.Tensor]]:
    """Return the mean cross-entropy, float of shape (), and the accuracy to log."""
    accuracy = (logits.detach().argmax(dim=-1) == targets).float().mean()
    return functional.cross_entropy(logits, targets), {"accuracy": accuracy}
