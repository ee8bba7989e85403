"""Small encoders, frames and a toy world for the tests of the encoder's objectives."""

from typing import Any

import torch as th
from torch import nn

from sb3_lwm.world_model.objectives import EncoderObjective, make_objective

LATENT_SIZE, N_ACTIONS = 4, 3


def make(name: str, **kwargs: Any) -> EncoderObjective:
    th.manual_seed(0)
    return make_objective(name, LATENT_SIZE, N_ACTIONS, **kwargs)


def make_encoder(frame_size: int = 12) -> nn.Module:
    """:return: a linear encoder of (N, 1, frame_size, frame_size) uint8"""
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
    """:return: (T, B, 1, frame_size, frame_size) uint8 frames and (T, B) int64 actions of the objective's sizes"""
    shape = (objective.sequence_length, objective.batch_size)
    return th.randint(256, (*shape, 1, frame_size, frame_size), dtype=th.uint8), th.randint(N_ACTIONS, shape)


def shifts_of(frame: th.Tensor, shifted: th.Tensor, max_shift: int) -> list[tuple[int, int]]:
    """:return: the shifts within the bounds that make ``frame`` into ``shifted``"""
    bounds = range(-max_shift, max_shift + 1)
    return [
        (rows, columns) for rows in bounds for columns in bounds if th.equal(frame.roll((rows, columns), (-2, -1)), shifted)
    ]


def toy_batch(n_windows: int, sequence_length: int, frame_size: int = 12) -> tuple[th.Tensor, th.Tensor]:
    """
    A bright column that walks left, stays, or walks right, around the frame.

    :return: (T, B, 1, frame_size, frame_size) uint8 frames and (T, B) int64 actions
    """
    actions = th.randint(3, (sequence_length, n_windows))
    moves = th.cat((th.randint(frame_size, (1, n_windows)), actions[:-1] - 1))
    columns = 255 * nn.functional.one_hot(moves.cumsum(dim=0) % frame_size, frame_size)
    return columns.to(th.uint8).view(sequence_length, n_windows, 1, 1, -1).expand(-1, -1, 1, frame_size, -1), actions
