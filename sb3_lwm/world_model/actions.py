"""Actions of any space as vectors of numbers."""

import torch as th
from gymnasium import spaces
from torch import nn


class ActionEncoder(nn.Module):
    """
    The vector that represents an action: one-hot for Discrete, concatenated one-hot vectors for MultiDiscrete, the flags of
    MultiBinary, and the values of a Box, clipped to its bounds and scaled to [-1, 1] where these are finite.

    :param action_space: The action space, Discrete, MultiDiscrete, MultiBinary or Box
    :raises ValueError: If the action space is another one
    """

    low: th.Tensor
    high: th.Tensor

    def __init__(self, action_space: spaces.Space) -> None:
        super().__init__()
        self.action_space = action_space
        # the number of values of each discrete part
        self.sizes: list[int] = []
        if isinstance(action_space, spaces.Discrete):
            self.sizes = [int(action_space.n)]
            self.size = self.sizes[0]
        elif isinstance(action_space, spaces.MultiDiscrete):
            self.sizes = [int(size) for size in action_space.nvec.ravel()]
            self.size = sum(self.sizes)
        elif isinstance(action_space, spaces.MultiBinary | spaces.Box):
            self.size = int(th.tensor(action_space.shape).prod())
        else:
            raise ValueError(
                f"The world model cannot represent actions of {action_space}: use Discrete, MultiDiscrete, MultiBinary or Box."
            )
        if isinstance(action_space, spaces.Box):
            self.register_buffer("low", th.as_tensor(action_space.low).flatten().float(), persistent=False)
            self.register_buffer("high", th.as_tensor(action_space.high).flatten().float(), persistent=False)

    def forward(self, actions: th.Tensor) -> th.Tensor:
        """
        :param actions: The actions, (T, B) int64 for Discrete, (T, B, ...) for the other spaces; values of Discrete and
            MultiDiscrete start at 0
        :return: The vectors, (T, B, size) float32
        """
        if isinstance(self.action_space, spaces.Discrete):
            return nn.functional.one_hot(actions, self.size).float()
        flat = actions.flatten(2)
        if self.sizes:
            parts = [nn.functional.one_hot(part.long(), size) for part, size in zip(flat.unbind(2), self.sizes, strict=True)]
            return th.cat(parts, dim=-1).float()
        flat = flat.float()
        if isinstance(self.action_space, spaces.MultiBinary):
            return flat
        clipped = th.minimum(th.maximum(flat, self.low), self.high)
        scaled = 2.0 * (clipped - self.low) / (self.high - self.low).clamp(min=1e-8) - 1.0
        # a dimension without bounds is not scaled
        return th.where(th.isfinite(self.high - self.low), scaled, clipped)
