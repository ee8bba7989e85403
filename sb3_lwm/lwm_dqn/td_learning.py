"""Temporal-difference learning on sequences: pure functions, time first."""

import torch as th

from sb3_lwm.common.type_aliases import SequenceSamples

RESCALING_EPSILON = 1e-3


def rescale_value(values: th.Tensor, epsilon: float = RESCALING_EPSILON) -> th.Tensor:
    """
    ``h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x`` (Pohlen et al. 2018, proposition A.2; used by R2D2 and LWM).

    :param values: The returns, of any shape
    :param epsilon: The slope that makes the inverse Lipschitz continuous
    :return: The rescaled returns, of the same shape
    """
    # |x| / (sqrt(|x| + 1) + 1) is sqrt(|x| + 1) - 1 without its cancellation near 0
    magnitudes = values.abs()
    return th.sign(values) * magnitudes / (th.sqrt(magnitudes + 1.0) + 1.0) + epsilon * values


def unrescale_value(values: th.Tensor, epsilon: float = RESCALING_EPSILON) -> th.Tensor:
    """
    The exact inverse of :func:`rescale_value` (Pohlen et al. 2018, proposition A.2 iii).

    With ``s = sqrt(|x| + 1) - 1`` the definition reads ``epsilon s^2 + (1 + 2 epsilon) s = |h(x)|``.

    :param values: The rescaled returns, of any shape
    :param epsilon: The slope with which they were rescaled
    :return: The returns, of the same shape
    """
    magnitudes = values.abs()
    slope = 1.0 + 2.0 * epsilon
    # the positive root, in a form without the subtraction of two close numbers
    roots = 2.0 * magnitudes / (slope + th.sqrt(slope**2 + 4.0 * epsilon * magnitudes))
    return th.sign(values) * roots * (roots + 2.0)


def n_step_returns(
    rewards: th.Tensor,
    values: th.Tensor,
    finals: th.Tensor,
    terminations: th.Tensor,
    gamma: float,
    n_steps: int,
) -> th.Tensor:
    """
    ``sum_{k<n} gamma^k r_{t+k} + gamma^n V(s_{t+n})``, truncated at the end of an episode (LWM, section 4; R2D2, eq. 1).

    After a termination the value of the final row is 0; after a time-out it is the value of the final observation.

    :param rewards: The reward of the action at each row, (T + n_steps, B) float
    :param values: The bootstrap value of each row, (T + n_steps, B) float
    :param finals: Whether each row holds a final observation, (T + n_steps, B) bool
    :param terminations: Whether each row is a final row after a termination, (T + n_steps, B) bool
    :param gamma: The discount factor
    :param n_steps: The number of rewards before the bootstrap, at least 1
    :return: The returns, (T, B) float; those of final rows are without meaning
    """
    values = values.masked_fill(terminations, 0.0)
    returns = values
    for _ in range(n_steps):
        rows = len(returns) - 1
        # add one more reward in front of every return; final rows have no reward
        returns = th.where(finals[:rows], values[:rows], rewards[:rows] + gamma * returns[1:])
    return returns


def double_q_values(q_values: th.Tensor, target_q_values: th.Tensor) -> th.Tensor:
    """
    ``Q_target(s, argmax_a Q(s, a))`` (van Hasselt et al. 2016, eq. 4).

    :param q_values: The Q-values of the network that chooses the action, (..., A) float
    :param target_q_values: The Q-values of the network that evaluates it, (..., A) float
    :return: The values, (...) float
    """
    return target_q_values.gather(-1, q_values.argmax(dim=-1, keepdim=True)).squeeze(-1)


def q_learning_errors(
    q_values: th.Tensor,
    target_q_values: th.Tensor,
    samples: SequenceSamples,
    gamma: float,
    n_steps: int,
    double_q: bool,
    value_rescaling: bool,
) -> th.Tensor:
    """
    ``Q(s_t, a_t) - h(sum_{k<n} gamma^k r_{t+k} + gamma^n h^-1(Q_target(s_{t+n}, argmax_a Q(s_{t+n}, a))))``
    (LWM, section 4; R2D2, eq. 1).

    :param q_values: The Q-values of the last ``T`` rows of the samples, (T, B, A) float
    :param target_q_values: The target network's Q-values of these rows, (T, B, A) float
    :param samples: The rows, (at least T, B)
    :param gamma: The discount factor
    :param n_steps: The number of rewards before the bootstrap
    :param double_q: Whether the online network chooses the action of the bootstrap; if False the target network does
    :param value_rescaling: Whether the networks learn ``h(Q)``; if False ``h`` is the identity
    :return: The TD errors with gradient, (T - n_steps, B) float; 0 at final rows, which have no action
    """
    n_rows = len(q_values)
    rewards, finals, terminations, actions = (
        part[-n_rows:] for part in (samples.rewards, samples.finals, samples.terminations, samples.actions)
    )
    with th.no_grad():
        values = double_q_values(q_values if double_q else target_q_values, target_q_values)
        if value_rescaling:
            values = unrescale_value(values)
        targets = n_step_returns(rewards, values, finals, terminations, gamma, n_steps)
        if value_rescaling:
            targets = rescale_value(targets)
    taken = q_values[:-n_steps].gather(-1, actions[:-n_steps].unsqueeze(-1)).squeeze(-1)
    return (taken - targets).masked_fill(finals[:-n_steps], 0.0)


def sequence_priorities(td_errors: th.Tensor, max_weight: float) -> th.Tensor:
    """
    ``p = max_weight max_t |delta_t| + (1 - max_weight) mean_t |delta_t|`` (R2D2, section 2.3).

    :param td_errors: The TD errors, (T, B) float
    :param max_weight: The weight of the largest error against the mean
    :return: The priorities, (B,) float
    """
    magnitudes = td_errors.abs()
    return max_weight * magnitudes.amax(dim=0) + (1.0 - max_weight) * magnitudes.mean(dim=0)
