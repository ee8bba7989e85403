"""Schedules of hyperparameters during a training."""

from collections.abc import Callable

from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

# A constant, "lin_<start>" for a linear schedule from this value to 0, or a function of the progress remaining (1 to 0)
ScheduleArgument = float | str | Callable[[float], float]


def make_schedule(name: str, value: ScheduleArgument, fraction: float = 1.0) -> Callable[[float], float]:
    """
    :param name: The name of the argument, for the error message
    :param value: A constant, ``"lin_<start>"`` as in the RL Zoo, or a function of the progress remaining (from 1 to 0)
    :param fraction: The fraction of the training over which a linear schedule falls
    :return: The function of the progress remaining
    :raises ValueError: If the value is of another kind or negative
    """
    if callable(value):
        return value
    text = value if isinstance(value, str) else None
    try:
        number = float(value if text is None else text.removeprefix("lin_"))
    except (TypeError, ValueError):
        number = -1.0
    if not number >= 0.0:
        raise ValueError(f"{name}={value!r}: it must be >= 0, 'lin_<start>' such as 'lin_0.02', or a schedule.")
    return LinearSchedule(number, 0.0, fraction) if text is not None and text.startswith("lin_") else ConstantSchedule(number)
