"""Checks that stop a training before an update with non-finite values would spoil its networks."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch as th

# The error of a loss that is not finite also names observations with numbers above this one
LARGE_VALUE = 1e6
# The type of the device whose numbers can be read without delay
HOST = "cpu"


class NonFiniteError(ValueError):
    """
    Raised if a loss, a gradient, a reward or an observation is not finite. A ValueError, because the Zoo lets Optuna prune
    trials that raise one.

    The message names the term, the step, and the last training state, which has finite values.
    """


class FiniteGuard:
    """
    Computes gradients, and raises an error if they are not finite.

    On the CPU the error is raised at once. On a GPU, which reading a number would make idle, the gradients of such an update
    are replaced by zeros, and :meth:`read` raises the error.

    :param position: The function that describes the present step and the last training state
    """

    def __init__(self, position: Callable[[], str]) -> None:
        self._position = position
        # the largest absolute value in any observation so far
        self.largest_value = 0.0
        # by error message, a tensor of shape () that is True if the error has occurred
        self._found: dict[str, th.Tensor] = {}

    def error(self, message: str) -> NonFiniteError:
        """
        :param message: The description of the value that is not finite, and the remedy
        :return: The error to raise
        """
        return NonFiniteError(f"{message} {self._position()}")

    def check_step(self, observations: Any, rewards: np.ndarray) -> None:
        """
        :param observations: The observations, an array (n_envs, *observation shape), or a dictionary of arrays
        :param rewards: The rewards, (n_envs,) float
        :raises NonFiniteError: If a value is not finite; the message names the environment
        """
        for name, values in observations.items() if isinstance(observations, dict) else [("observation", observations)]:
            self.largest_value = max(self.largest_value, self._check_values(name, np.asarray(values)))
        self._check_values("reward", np.asarray(rewards))

    def _check_values(self, name: str, values: np.ndarray) -> float:
        """Return the largest absolute value; 0 for integers."""
        if values.dtype.kind != "f":
            return 0.0
        # the maximum is not finite if any value is not
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

        :param optimizer: The optimizer
        :param loss: The loss, of shape ()
        :param term: The name of the trained network, for the error message
        :param remedy: The remedy, for the error message
        :param max_norm: The bound of the gradients' norm; None for no clipping
        :return: The norm of the gradients before clipping, float of shape ()
        :raises NonFiniteError: If the loss or the norm is not finite
        """
        optimizer.zero_grad()
        loss.backward()
        parameters = [part for group in optimizer.param_groups for part in group["params"]]
        gradients = [part.grad for part in parameters if part.grad is not None]
        norm = th.nn.utils.get_total_norm(gradients)
        is_on_host = norm.device.type == HOST
        # one test for both, since the sum is finite only if both are
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
        Read the results of the checks on a GPU, which waits for its computations.

        :raises NonFiniteError: If an update since the last reading was not finite
        """
        found, self._found = self._found, {}
        for message, is_bad in found.items():
            if is_bad:
                raise self.error(message + self._describe_observations())

    def _describe_observations(self) -> str:
        """Return a sentence about observations that are large enough to be the reason; empty if there are none."""
        if self.largest_value < LARGE_VALUE:
            return ""
        return f" An observation had a number as large as {self.largest_value:.3g}: scale the observations."
