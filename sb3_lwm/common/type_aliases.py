"""The tensors that the modules of the package exchange, with their shapes.

``T`` time, ``B`` batch (or number of environments), ``A`` actions, ``Z`` latent size.
"""

from typing import Any, NamedTuple

import numpy as np
import torch as th

# One tensor, or one for each key of a Dict space
Observations = th.Tensor | dict[str, th.Tensor]


class RecurrentState(NamedTuple):
    """
    The hidden states of the agent between two steps: tensors while learning, NumPy arrays in ``predict``.

    The sizes of the parts that belong to the world model are 0 without one.
    """

    hidden: Any  # (B, gru_hidden_size) float32, hidden state of the Q-network
    model_hidden: Any  # (B, world model's gru_hidden_size) float32, hidden state of the predictor
    predicted_latents: Any  # (B, Z) float32, the world model's prediction of the next latents
    last_actions: Any  # (B,) int64


class SequenceSamples(NamedTuple):
    """
    Sequences drawn from the replay buffer, time first.

    A row holds an observation, the action taken there and its reward. The last observation of an episode has a row of its
    own, a *final* row, whose action and reward are 0.
    """

    observations: Observations  # (T, B, *observation shape)
    actions: th.Tensor  # (T, B) int64
    rewards: th.Tensor  # (T, B) float32, the environment's rewards, to which the world model adds the intrinsic reward
    episode_starts: th.Tensor  # (T, B) bool, whether the hidden state is reset before the row
    finals: th.Tensor  # (T, B) bool, whether the row is the final observation of an episode
    terminations: th.Tensor  # (T, B) bool, whether the row is a final row after a termination (not a time-out)
    initial_states: RecurrentState | None  # hidden states before the first row; None for zeros
    importance_weights: th.Tensor  # (B,) float32
    sequence_ids: np.ndarray  # (B,) int64, ids of the sequences, for their new priorities
    intrinsic_rewards: th.Tensor  # (T, B) float32, intrinsic reward of the row's observation; 0 from the buffer


class Transitions(NamedTuple):
    """Consecutive transitions of ``B`` environments for the predictor of the world model, time first."""

    latents: th.Tensor  # (T, B, Z) float32, latents of the observations
    actions: th.Tensor  # (T, B) int64, or (T, B, *action shape)
    episode_starts: th.Tensor  # (T, B) bool, whether the hidden state is reset before the transition
    next_latents: th.Tensor  # (T, B, Z) float32, latents of the next observations; at an episode's end, of the final one


class Play(NamedTuple):
    """Whole episodes of one Atari game, one after the other. The last frame of an episode has the action 0."""

    frames: np.ndarray  # (N, 84, 84) uint8, the agent's observations
    actions: np.ndarray  # (N,) int64, the action taken at each frame
    rams: np.ndarray  # (N, 128) uint8, the console's memory at each frame
    episodes: np.ndarray  # (N,) int64, the number of each frame's episode
    n_actions: int  # number of actions of the game


def map_observations(function: Any, observations: Any) -> Any:
    """
    Apply ``function`` to an observation, or to every entry of a dictionary of observations.

    :param function: The function from array to array
    :param observations: An array, or a dictionary of arrays
    :return: The results in the same structure
    """
    if isinstance(observations, dict):
        return {key: function(value) for key, value in observations.items()}
    return function(observations)
