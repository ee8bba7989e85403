"""Every tensor that travels between the rooms of the package, with its shape.

``T`` time, ``B`` batch (or number of environments), ``A`` actions, ``Z`` latent size.
"""

from typing import Any, NamedTuple

import numpy as np
import torch as th

# What an observation tensor is: one tensor, or one per key of a Dict space.
Observations = th.Tensor | dict[str, th.Tensor]


class RecurrentState(NamedTuple):
    """
    What the agent remembers between two steps; tensors while learning, NumPy arrays at the ``predict`` interface.

    The sizes of the parts that belong to the world model are 0 without one.
    """

    hidden: Any  # (B, gru_hidden_size) float32, memory of the Q-network
    model_hidden: Any  # (B, world model's gru_hidden_size) float32, memory of the predictor
    predicted_latents: Any  # (B, Z) float32, what the world model expects to see next
    last_actions: Any  # (B,) int64


class SequenceSamples(NamedTuple):
    """
    Sequences drawn from the replay buffer, time first.

    A row holds an observation and what was done with it. The last observation of an episode has a row of its own, a
    *final* row, with which nothing was done: its action and reward are 0.
    """

    observations: Observations  # (T, B, *observation shape)
    actions: th.Tensor  # (T, B) int64
    rewards: th.Tensor  # (T, B) float32; of the environment, the callback adds the intrinsic reward
    episode_starts: th.Tensor  # (T, B) bool, memories are reset before this row
    finals: th.Tensor  # (T, B) bool, the row is the final observation of an episode
    terminations: th.Tensor  # (T, B) bool, final rows after which there is no return (not a time-out)
    initial_states: RecurrentState | None  # memory before the first row; None: from zero
    importance_weights: th.Tensor  # (B,) float32
    sequence_ids: np.ndarray  # (B,) int64, to give new priorities to
    intrinsic_rewards: th.Tensor  # (T, B) float32, the one that came with this row's observation; 0 from the buffer


class Transitions(NamedTuple):
    """Consecutive transitions of ``B`` environments as the predictor of the world model sees them, time first."""

    latents: th.Tensor  # (T, B, Z) float32, of the observations
    actions: th.Tensor  # (T, B) int64, or (T, B, *action shape)
    episode_starts: th.Tensor  # (T, B) bool, the hidden state is reset before this transition
    next_latents: th.Tensor  # (T, B, Z) float32, of the next observations; where an episode ends, of its final one


class Play(NamedTuple):
    """Whole episodes of one Atari game, one after the other. The last frame of an episode has no action: 0."""

    frames: np.ndarray  # (N, 84, 84) uint8, as the agent sees them
    actions: np.ndarray  # (N,) int64, taken at the frame
    rams: np.ndarray  # (N, 128) uint8, the console's memory at the frame
    episodes: np.ndarray  # (N,) int64, number of the episode
    n_actions: int  # of the game


def map_observations(function: Any, observations: Any) -> Any:
    """
    Apply ``function`` to an observation, or to every entry of a dictionary of observations.

    :param function: from array to array
    :param observations: an array, or a dictionary of arrays
    :return: the same structure with the results
    """
    if isinstance(observations, dict):
        return {key: function(value) for key, value in observations.items()}
    return function(observations)
