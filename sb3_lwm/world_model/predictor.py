"""The recurrent predictor of the next latent."""

import torch as th
from torch import nn

from sb3_lwm.torch_layers import ResettableGRU


class LatentPredictor(nn.Module):
    """
    ``(z_t, one-hot a_t) -> Linear -> GRU -> Linear, ReLU, Linear -> z'_{t+1}`` (LWM, section 4.2).

    :param latent_size: ``Z``
    :param n_actions: ``A``
    :param binary: (Z,) bool, dimensions that are predicted as a probability (sigmoid)
    :param input_size: size of the first layer
    :param input_activation_fn: after the first layer
    :param gru_hidden_size: size of the memory
    :param head_size: size of the layer after the memory
    """

    binary: th.Tensor

    def __init__(
        self,
        latent_size: int,
        n_actions: int,
        binary: th.Tensor,
        input_size: int = 32,
        input_activation_fn: type[nn.Module] = nn.ReLU,
        gru_hidden_size: int = 128,
        head_size: int = 128,
    ) -> None:
        super().__init__()
        self.n_actions = n_actions
        self.embedding = nn.Sequential(nn.Linear(latent_size + n_actions, input_size), input_activation_fn())
        self.memory = ResettableGRU(input_size, gru_hidden_size)
        self.head = nn.Sequential(nn.Linear(gru_hidden_size, head_size), nn.ReLU(), nn.Linear(head_size, latent_size))
        self.all_binary, self.any_binary = bool(binary.all()), bool(binary.any())
        self.register_buffer("binary", binary, persistent=False)

    def forward(
        self, latents: th.Tensor, actions: th.Tensor, hidden: th.Tensor, resets: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        :param latents: (T, B, Z) float
        :param actions: (T, B) int64, taken there
        :param hidden: (B, gru_hidden_size) float, memory before the first step
        :param resets: (T, B) bool, the memory is zeroed before this step
        :return: (T, B, Z) float, the expected next latents; (B, gru_hidden_size) float, memory after the last step
        """
        one_hot = nn.functional.one_hot(actions, self.n_actions).to(latents.dtype)
        memories = self.memory(self.embedding(th.cat((latents, one_hot), dim=-1)), hidden, resets)
        predictions = self.head(memories)
        if self.all_binary:
            predictions = predictions.sigmoid()
        elif self.any_binary:
            predictions = th.where(self.binary, predictions.sigmoid(), predictions)
        return predictions, memories[-1]
