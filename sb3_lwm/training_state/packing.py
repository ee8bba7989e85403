"""Nested Python values as JSON and arrays; reading them back executes no code."""

import sys
from typing import Any

import numpy as np
import torch as th

SCALARS = (bool, int, float, str, type(None))
# The length above which lists of numbers are stored as arrays
LONGEST_LIST = 100


def pack(value: Any, arrays: list[np.ndarray] | None = None) -> Any:
    """
    :param value: A value made of numbers, strings, None, lists, tuples, dictionaries, classes, schedules (objects that can be
        called and hold such values), NumPy arrays and scalars, and tensors
    :param arrays: The list to which arrays are appended; None if there can be none
    :return: The value for JSON
    :raises TypeError: If the value contains anything else, such as a function
    """
    if type(value) in SCALARS:
        return value
    if isinstance(value, dict):
        return {"dict": [[pack(key, arrays), pack(part, arrays)] for key, part in value.items()]}
    if isinstance(value, type):
        return {"class": _name(value)}
    if arrays is not None:
        if isinstance(value, np.ndarray | th.Tensor):
            return {"tensor" if isinstance(value, th.Tensor) else "array": _add(value, arrays)}
        if isinstance(value, np.generic):
            return {"scalar": _add(np.asarray(value), arrays)}
        if type(value) is list and len(value) > LONGEST_LIST and {type(part) for part in value} in ({float}, {int}):
            return {"numbers": _add(np.array(value), arrays)}
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [pack(part, arrays) for part in value]}
    # a schedule of SB3 or of the Zoo
    if callable(value) and hasattr(value, "__dict__") and not hasattr(value, "__code__"):
        return {"object": [_name(type(value)), [[key, pack(part, arrays)] for key, part in vars(value).items()]]}
    raise TypeError(f"a training state holds no {type(value).__name__} ({value!r:.80})")


def _name(value: type) -> str:
    """Return the name by which a class can be found again."""
    if "<" in value.__qualname__:
        raise TypeError(f"a training state holds no class without a name ({value!r:.80})")
    return f"{value.__module__}:{value.__qualname__}"


def _add(value: np.ndarray | th.Tensor, arrays: list[np.ndarray]) -> int:
    """Append an array, and return its index."""
    array = value.detach().cpu().numpy() if isinstance(value, th.Tensor) else value
    if array.dtype.hasobject:
        raise TypeError(f"a training state holds no array of Python objects ({array!r:.80})")
    arrays.append(array)
    return len(arrays) - 1


def unpack(packed: Any, arrays: list[np.ndarray] | None = None) -> Any:
    """
    Restore a packed value. No module is imported for it: the classes must be imported already.

    :param packed: The result of :func:`pack`
    :param arrays: The arrays that :func:`pack` has appended
    :return: The value; named tuples have become plain ones, tensors are on the CPU
    :raises ValueError: If a class is not imported
    """
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "dict":
        return {unpack(key, arrays): unpack(part, arrays) for key, part in content}
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(unpack(part, arrays) for part in content)
    if kind == "class":
        return _find(content)
    if kind == "object":
        name, attributes = content
        made: Any = object.__new__(_find(name))
        vars(made).update({key: unpack(part, arrays) for key, part in attributes})
        return made
    array = (arrays or [])[content]
    if kind == "tensor":
        return th.from_numpy(array)
    return {"array": array, "scalar": array[()] if array.ndim == 0 else None, "numbers": array.tolist()}[kind]


def _find(name: str) -> type:
    """Return a class that is imported already."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ValueError(
            f"The training state names the class {qualname} of {module}, which is not imported: import {module} first."
        )
    return found
