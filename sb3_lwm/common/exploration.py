"""Random actions: how many, and which."""

import numpy as np

# Gymnasium seeds its environments with the seed alone
AGENT = 1


def epsilon_ladder(n_envs: int, base: float, alpha: float) -> list[float]:
    """
    ``epsilon_i = base^(1 + alpha i / (n_envs - 1))``: environments from bold to cautious (Ape-X, section 4.1; R2D2).

    :param n_envs: number of environments
    :param base: epsilon of the first environment, in (0, 1)
    :param alpha: how far the last environment's exponent lies above the first's
    :return: one epsilon for each environment; ``base`` alone for a single one
    """
    return [base ** (1.0 + alpha * index / max(n_envs - 1, 1)) for index in range(n_envs)]


def agent_generator(seed: int | None) -> np.random.Generator:
    """
    :param seed: The seed of an agent; None for a random one
    :return: A generator whose numbers are not those of an environment that was seeded with the same number
    """
    return np.random.default_rng(None if seed is None else (AGENT, seed))


def explore(actions: np.ndarray, epsilons: np.ndarray | float, n_actions: int, rng: np.random.Generator) -> np.ndarray:
    """
    Epsilon-greedy, drawn for each environment by itself.

    :param actions: (B,) int64, greedy actions
    :param epsilons: (B,) float or one for all
    :param n_actions: ``A``
    :param rng: The generator of the random actions
    :return: (B,) int64
    """
    if np.isscalar(epsilons) and epsilons == 0.0:
        return actions
    random_actions = rng.integers(n_actions, size=len(actions))
    return np.where(rng.random(len(actions)) < epsilons, random_actions, actions)
