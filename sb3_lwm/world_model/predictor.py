"""The recurrent predictor of the next latent."""

import torch as th
from torch import nn

from sb3_lwm.common.gru import ResettableGRU
from sb3_lwm.world_model.actions import ActionEncoder


class LatentPredictor(nn.Module):
    """
    ``(z_t, one-hot a_t) -> Linear -> GRU -> Linear, ReLU, Linear -> z'_{t+1}`` (LWM, section 4.2).

    :param latent_size: The size of a latent, ``Z``
    :param actions: The encoder of the actions
    :param binary: Whether each dimension is predicted as a probability (sigmoid), (Z,) bool
    :param input_size: The size of the first layer
    :param input_activation_fn: The activation function after the first layer
    :param gru_hidden_size: The size of the hidden state
    :param head_size: The size of the layer after the GRU
    :param cross_entropy: Whether probabilities learn from the cross-entropy; if False from the squared error, whose gradient
        vanishes where the sigmoid saturates at a wrong value, so that such an error may never be corrected
    """

    binary: th.Tensor

    def __init__(
        self,
        latent_size: int,
        actions: ActionEncoder,
        binary: th.Tensor,
        input_size: int = 32,
        input_activation_fn: type[nn.Module] = nn.ReLU,
        gru_hidden_size: int = 128,
        head_size: int = 128,
        cross_entropy: bool = True,
    ) -> None:
        super().__init__()
        self.actions = actions
        self.cross_entropy = cross_entropy
        self.embedding = nn.Sequential(nn.Linear(latent_size + actions.size, input_size), input_activation_fn())
        self.memory = ResettableGRU(input_size, gru_hidden_size)
        self.head = nn.Sequential(
            nn.Linear(gru_hidden_size, head_size), nn.ReLU(inplace=True), nn.Linear(head_size, latent_size)
        )
        self.all_binary, self.any_binary = bool(binary.all()), bool(binary.any())
        self.register_buffer("binary", binary, persistent=False)

    def forward(
        self, latents: th.Tensor, actions: th.Tensor, hidden: th.Tensor, resets: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        :param latents: The latents, (T, B, Z) float
        :param actions: The actions taken at these latents, (T, B, *action shape)
        :param hidden: The hidden states before the first step, (B, gru_hidden_size) float
        :param resets: Whether the hidden state is set to zero before each step, (T, B) bool
        :return: The outputs, (T, B, Z) float, which :meth:`expected_latents` turns into predictions of the next latents; and
            the hidden states after the last step, (B, gru_hidden_size) float
        """
        inputs = th.cat((latents, self.actions(actions).to(latents.dtype)), dim=-1)
        memories = self.memory(self.embedding(inputs), hidden, resets)
        return self.head(memories), memories[-1]

    def expected_latents(self, outputs: th.Tensor) -> th.Tensor:
        """
        :param outputs: The outputs of :meth:`forward`, (..., Z) float
        :return: The predicted latents, (..., Z) float, probabilities where the latents are binary
        """
        if self.all_binary:
            return outputs.sigmoid()
        return th.where(self.binary, outputs.sigmoid(), outputs) if self.any_binary else outputs

    def errors_and_losses(self, outputs: th.Tensor, latents: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param outputs: The outputs of :meth:`forward`, (..., Z) float
        :param latents: The observed latents, (..., Z) float
        :return: The prediction errors, (...) float without gradient, see :func:`prediction_errors`; and the training losses,
            (...) float with gradient, the mean over the dimensions of the same squared errors, or of the cross-entropy for
            probabilities
        """
        squares = squared_errors(latents, self.expected_latents(outputs))
        means = squares.mean(dim=-1)
        if not (self.cross_entropy and self.any_binary):
            return means.detach(), means
        entropies = nn.functional.binary_cross_entropy_with_logits(outputs, latents, reduction="none")
        losses = entropies if self.all_binary else th.where(self.binary, entropies, squares)
        return means.detach(), losses.mean(dim=-1)


def squared_errors(latents: th.Tensor, predicted_latents: th.Tensor) -> th.Tensor:
    """
    :param latents: The observed latents, (..., Z) float
    :param predicted_latents: The predicted latents, (..., Z) float
    :return: The squared errors, (..., Z) float
    """
    return nn.functional.mse_loss(predicted_latents, latents, reduction="none")


def prediction_errors(latents: th.Tensor, predicted_latents: th.Tensor) -> th.Tensor:
    """
    ``e = mean over dimensions of (z - z')^2`` (LWM, eq. 3).

    :param latents: The observed latents, (..., Z) float
    :param predicted_latents: The predicted latents, (..., Z) float
    :return: The prediction errors, (...) float
    """
    return squared_errors(latents, predicted_latents).mean(dim=-1)
