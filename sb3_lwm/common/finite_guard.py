"""Stops a training that has gone wrong before the update that would spoil it."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch as th

# Larger numbers in an observation are named when a loss is not finite
LARGE_VALUE = 1e6
# The device whose numbers can be looked at at once
HOST = "cpu"


class NonFiniteError(ValueError):
    """
    A loss, a gradient, a reward or an observation is not finite. A ValueError, because Optuna in the Zoo prunes those trials.

    The message names the term, the step, and the last training state, which is good.
    """


class FiniteGuard:
    """
    Computes gradients, and refuses those that are not finite.

    On the CPU it does so at once. On a GPU looking at a number would make it idle: there the gradients of a bad update are
    made 0, and :meth:`read` tells.

    :param position: the step and the last training state, in words
    """

    def __init__(self, position: Callable[[], str]) -> None:
        self._position = position
        # the largest absolute value of a number in an observation so far
        self.largest_value = 0.0
        # by message
        self._found: dict[str, th.Tensor] = {}

    def error(self, message: str) -> NonFiniteError:
        """
        :param message: what is not finite, and the remedy
        :return: to raise
        """
        return NonFiniteError(f"{message} {self._position()}")

    def check_step(self, observations: Any, rewards: np.ndarray) -> None:
        """
        :param observations: (n_envs, *observation shape) array, or a dictionary of arrays
        :param rewards: (n_envs,) float
        :raises NonFiniteError: If a value is not finite; names the environment
        """
        for name, values in observations.items() if isinstance(observations, dict) else [("observation", observations)]:
            self.largest_value = max(self.largest_value, self._check_values(name, np.asarray(values)))
        self._check_values("reward", np.asarray(rewards))

    def _check_values(self, name: str, values: np.ndarray) -> float:
        """Return the largest absolute value; 0 for integers."""
        if values.dtype.kind != "f":
            return 0.0
        # not finite if one of them is not
        largest = float(np.abs(values).max(initial=0.0))
        if not np.isfinite(largest):
            env = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0]
            raise self.error(f"The {name} of environment {env} is not finite: {values[env]}. Mend the environment.")
        return largest

    def backward(
        self, optimizer: th.optim.Optimizer, loss: th.Tensor, term: str, remedy: str, max_norm: float | None = None
    ) -> th.Tensor:
        """
        Compute the gradients for the optimizer's next step, and clip them.

        :param optimizer: of what is learned
        :param loss: shape ()
        :param term: what is learned, for the message
        :param remedy: likewise
        :param max_norm: bound of the gradients' norm; None for none
        :return: shape (), float, their norm before
        :raises NonFiniteError: if the loss or the norm is not finite
        """
        optimizer.zero_grad()
        loss.backward()
        parameters = [part for group in optimizer.param_groups for part in group["params"]]
        gradients = [part.grad for part in parameters if part.grad is not None]
        norm = th.nn.utils.get_total_norm(gradients)
        is_on_host = norm.device.type == HOST
        # one look: a number that is not finite leaves no finite sum of absolute values
        if not (is_on_host and math.isfinite(abs(loss.item()) + norm.item())):
            for name, value in (("loss", loss.detach()), ("gradient's norm", norm)):
                self._check(f"The {term}'s {name}", value, remedy, gradients)
        if max_norm is not None and not (is_on_host and norm.item() <= max_norm):
            th.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        return norm

    def _check(self, name: str, value: th.Tensor, remedy: str, gradients: Iterable[th.Tensor]) -> None:
        is_bad = ~th.isfinite(value)
        if value.device.type == HOST:
            if is_bad:
                raise self.error(f"{name} is {value.item()}: {remedy}.{self._describe_observations()}")
            return
        for gradient in gradients:
            gradient.masked_fill_(is_bad, 0.0)
        message = f"{name} is not finite: {remedy}."
        self._found[message] = self._found[message] | is_bad if message in self._found else is_bad

    def read(self) -> None:
        """
        Wait for a GPU, and look.

        :raises NonFiniteError: if an update was bad since the last look
        """
        found, self._found = self._found, {}
        for message, is_bad in found.items():
            if is_bad:
                raise self.error(message + self._describe_observations())

    def _describe_observations(self) -> str:
        """Return a sentence about observations that are large enough to be the reason, or nothing."""
        if self.largest_value < LARGE_VALUE:
            return ""
        return f" An observation had a number as large as {self.largest_value:.3g}: scale the observations."
