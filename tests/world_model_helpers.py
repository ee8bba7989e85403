"""Small world models, encoders, frames and a toy world."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_lwm.world_model import LatentWorldModel
from sb3_lwm.world_model.actions import ActionEncoder
from sb3_lwm.world_model.objectives import EncoderObjective, make_objective
from sb3_lwm.world_model.predictor import LatentPredictor

LATENT_SIZE, N_ACTIONS = 4, 3
ACTIONS = ActionEncoder(spaces.Discrete(N_ACTIONS))
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
SMALL_PREDICTOR = {"input_size": 4, "gru_hidden_size": 6, "head_size": 5}


def make_world_model(space: spaces.Space, encoder_objective: str = "w-mse", **kwargs: Any) -> LatentWorldModel:
    """
    :param space: The observation space
    :param encoder_objective: The objective of the encoder of images
    :param kwargs: Further arguments of the :class:`LatentWorldModel`
    :return: A world model with a small predictor, for three actions
    """
    th.manual_seed(0)
    rewards = {"intrinsic_reward_scale": 1.0, "intrinsic_reward_clip": None, "intrinsic_reward_momentum": 0.99}
    arguments = {"predictor_kwargs": SMALL_PREDICTOR, **rewards, **kwargs}
    return LatentWorldModel(space, spaces.Discrete(N_ACTIONS), encoder_objective=encoder_objective, **arguments)


def make_predictor(binary: list[bool], **kwargs: Any) -> LatentPredictor:
    """
    :param binary: Whether each dimension of the latent is a probability
    :param kwargs: Further arguments of the :class:`LatentPredictor`
    :return: A small predictor for two actions
    """
    return LatentPredictor(len(binary), ActionEncoder(spaces.Discrete(2)), th.tensor(binary), **SMALL_PREDICTOR, **kwargs)


def make(name: str, **kwargs: Any) -> EncoderObjective:
    th.manual_seed(0)
    return make_objective(name, LATENT_SIZE, ACTIONS, **kwargs)


def make_encoder(frame_size: int = 12) -> nn.Module:
    """Make a linear encoder of frames, (N, 1, frame_size, frame_size) uint8."""
    th.manual_seed(1)
    linear = nn.Linear(frame_size**2, LATENT_SIZE)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, frames: th.Tensor) -> th.Tensor:
            return self.linear(frames.flatten(1) / 255.0)

    return Encoder()


def random_batch(objective: EncoderObjective, frame_size: int = 12) -> tuple[th.Tensor, th.Tensor]:
    """Return (T, B, 1, frame_size, frame_size) uint8 frames and (T, B) int64 actions of the objective's sizes."""
    shape = (objective.sequence_length, objective.batch_size)
    return th.randint(256, (*shape, 1, frame_size, frame_size), dtype=th.uint8), th.randint(N_ACTIONS, shape)


def shifts_of(frame: th.Tensor, shifted: th.Tensor, max_shift: int) -> list[tuple[int, int]]:
    """Return the shifts within the bounds that turn ``frame`` into ``shifted``."""
    bounds = range(-max_shift, max_shift + 1)
    return [
        (rows, columns) for rows in bounds for columns in bounds if th.equal(frame.roll((rows, columns), (-2, -1)), shifted)
    ]


def toy_batch(n_windows: int, sequence_length: int, frame_size: int = 12) -> tuple[th.Tensor, th.Tensor]:
    """
    Make windows of a bright column that moves left, stays, or moves right, around the frame.

    :return: The frames, (T, B, 1, frame_size, frame_size) uint8, and the actions, (T, B) int64
    """
    actions = th.randint(3, (sequence_length, n_windows))
    moves = th.cat((th.randint(frame_size, (1, n_windows)), actions[:-1] - 1))
    columns = 255 * nn.functional.one_hot(moves.cumsum(dim=0) % frame_size, frame_size)
    return columns.to(th.uint8).view(sequence_length, n_windows, 1, 1, -1).expand(-1, -1, 1, frame_size, -1), actions
