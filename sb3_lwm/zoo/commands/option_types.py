"""Types of options for ``argparse``, which adds the name of the option to the message and ends the program."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path


def integer_from(lowest: int) -> Callable[[str], int]:
    """
    :param lowest: The lowest allowed value
    :return: The type of an integer that is at least ``lowest``
    """

    def integer(text: str) -> int:
        if int(text) < lowest:
            raise ArgumentTypeError(f"{text} is too small, it must be at least {lowest}")
        return int(text)

    return integer


def positive_number(text: str) -> float:
    """
    :param text: The value on the command line
    :return: A number greater than 0
    """
    if not float(text) > 0.0:
        raise ArgumentTypeError(f"{text} must be greater than 0")
    return float(text)


def share(text: str) -> float:
    """
    :param text: The value on the command line
    :return: A number from 0 to 1
    """
    if not 0.0 <= float(text) <= 1.0:
        raise ArgumentTypeError(f"{text} must be a share from 0 to 1")
    return float(text)


def path_with_suffix(*suffixes: str) -> Callable[[str], Path]:
    """
    :param suffixes: The allowed suffixes, in lower case
    :return: The type of a path with one of these suffixes
    """

    def path(text: str) -> Path:
        if Path(text).suffix.lower() not in suffixes:
            raise ArgumentTypeError(f"{text} must end in {' or '.join(suffixes)}")
        return Path(text)

    return path
