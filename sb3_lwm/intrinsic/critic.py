"""A value function of the intrinsic reward, which does not end with an episode."""

import torch as th
from torch import nn

from sb3_lwm.common.finite_guard import FiniteGuard
from sb3_lwm.common.optimizers import optimizer_step

# As in PPO's policies of SB3
HIDDEN_SIZE = 64
N_EPOCHS = 4
BATCH_SIZE = 256


def continuing_advantages(rewards: th.Tensor, values: th.Tensor, gamma: float, gae_lambda: float) -> th.Tensor:
    """
    Generalised advantage estimation (Schulman et al. 2016, eq. 16) of returns that continue through the ends of episodes, as
    the intrinsic returns of RND (Burda et al. 2019, section 2.3): what is new does not become old when an episode ends, so an
    end is neither a loss nor a relief.

    :param rewards: The rewards, (T, B) float
    :param values: The values of the observations before each action and after the last one, (T + 1, B) float
    :param gamma: The discount factor
    :param gae_lambda: The trade-off between bias and variance
    :return: The advantages, (T, B) float
    """
    differences = rewards + gamma * values[1:] - values[:-1]
    advantages = th.zeros_like(rewards)
    following = th.zeros_like(rewards[0])
    for step in reversed(range(len(rewards))):
        following = differences[step] + gamma * gae_lambda * following
        advantages[step] = following
    return advantages


class IntrinsicCritic(nn.Module):
    """
    A value function of the intrinsic reward, of the latents of the world model.

    :param latent_size: The size of a latent, ``Z``
    :param gamma: The discount factor of the intrinsic reward
    :param learning_rate: The learning rate
    :param finite_guard: The check for losses and gradients that are not finite
    """

    def __init__(self, latent_size: int, gamma: float, learning_rate: float, finite_guard: FiniteGuard) -> None:
        super().__init__()
        self.gamma = gamma
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            *(nn.Linear(latent_size, HIDDEN_SIZE), nn.Tanh(), nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE), nn.Tanh()),
            nn.Linear(HIDDEN_SIZE, 1),
        )
        self.optimizer = th.optim.Adam(self.network.parameters(), lr=learning_rate)
        self._finite_guard = finite_guard

    def forward(self, latents: th.Tensor) -> th.Tensor:
        """
        :param latents: The latents, (..., Z) float
        :return: The values, (...) float
        """
        return self.network(latents).squeeze(-1)

    def learn(self, latents: th.Tensor, returns: th.Tensor) -> th.Tensor:
        """
        Train the values on the returns of a rollout.

        :param latents: The latents, (N, Z) float
        :param returns: The returns, (N,) float
        :return: The mean squared error before the last update, () float
        :raises NonFiniteError: If a loss or its gradient is not finite
        """
        loss = th.zeros(())
        for _ in range(N_EPOCHS):
            for rows in th.randperm(len(latents), device=latents.device).split(BATCH_SIZE):
                loss = nn.functional.mse_loss(self(latents[rows]), returns[rows])
                remedy = f"lower learning_rate (now {self.learning_rate}) or scale the observations"
                self._finite_guard.backward(self.optimizer, loss, "intrinsic value", remedy)
                optimizer_step(self.optimizer)
        return loss.detach()
