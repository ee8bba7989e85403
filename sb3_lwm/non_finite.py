"""The error of a training that has gone wrong: a loss, a gradient or a reward that is no number."""


class NonFiniteError(ValueError):
    """
    Something is not finite. A ValueError, because Optuna in the Zoo takes these for a trial that is to be pruned.

    The message names the term and the step, and the last good training state if there is one.
    """
