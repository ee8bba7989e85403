"""Random actions: how many, and which."""

import numpy as np


def epsilon_ladder(n_envs: int, base: float, alpha: float) -> list[float]:
    """
    ``epsilon_i = base^(1 + alpha i / (n_envs - 1))``: environments from bold to cautious (Ape-X, section 4.1; R2D2).

    :param n_envs: number of environments
    :param base: epsilon of the first environment, in (0, 1)
    :param alpha: how far the last environment's exponent lies above the first's
    :return: one epsilon for each environment; ``base`` alone for a single one
    """
    return [base ** (1.0 + alpha * index / max(n_envs - 1, 1)) for index in range(n_envs)]


def explore(actions: np.ndarray, epsilons: np.ndarray | float, n_actions: int) -> np.ndarray:
    """
    Epsilon-greedy, drawn for each environment by itself, from NumPy's global generator as SB3's DQN.

    :param actions: (B,) int64, greedy actions
    :param epsilons: (B,) float or one for all
    :param n_actions: ``A``
    :return: (B,) int64
    """
    if np.isscalar(epsilons) and epsilons == 0.0:
        return actions
    random_actions = np.random.randint(n_actions, size=len(actions))
    return np.where(np.random.rand(len(actions)) < epsilons, random_actions, actions)
