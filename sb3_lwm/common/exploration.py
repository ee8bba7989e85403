"""Random actions: their probabilities and their generator."""

import numpy as np

# Combined with an agent's seed, so that its generator differs from those of environments, which Gymnasium seeds with it alone
AGENT = 1


def epsilon_ladder(n_envs: int, base: float, alpha: float) -> list[float]:
    """
    ``epsilon_i = base^(1 + alpha i / (n_envs - 1))``: environments with decreasing exploration (Ape-X, section 4.1; R2D2).

    :param n_envs: The number of environments
    :param base: The epsilon of the first environment, in (0, 1)
    :param alpha: The difference between the exponents of the last and the first environment
    :return: The epsilon of each environment; ``base`` for a single one
    """
    return [base ** (1.0 + alpha * index / max(n_envs - 1, 1)) for index in range(n_envs)]


def agent_generator(seed: int | None) -> np.random.Generator:
    """
    :param seed: The seed of an agent; None for a random one
    :return: A generator with other numbers than that of an environment with the same seed
    """
    return np.random.default_rng(None if seed is None else (AGENT, seed))


def explore(actions: np.ndarray, epsilons: np.ndarray | float, n_actions: int, rng: np.random.Generator) -> np.ndarray:
    """
    Epsilon-greedy exploration, independently in each environment.

    :param actions: The greedy actions, (B,) int64
    :param epsilons: The probability of a random action, (B,) float or one for all
    :param n_actions: The number of actions, ``A``
    :param rng: The generator of the random actions
    :return: The actions, (B,) int64
    """
    if np.isscalar(epsilons) and epsilons == 0.0:
        return actions
    random_actions = rng.integers(n_actions, size=len(actions))
    return np.where(rng.random(len(actions)) < epsilons, random_actions, actions)
