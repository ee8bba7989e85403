"""Nested Python values as JSON and arrays: what a training state holds is read back without running any code."""

from typing import Any

import numpy as np
import torch as th

SCALARS = (bool, int, float, str, type(None))
# Longer lists of numbers are kept as arrays
LONGEST_LIST = 100


def pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """
    :param value: of numbers, strings, None, lists, tuples, dictionaries, NumPy arrays and scalars, and tensors
    :param arrays: gets the arrays
    :return: the same for JSON
    :raises TypeError: if there is something else in it
    """
    if type(value) in SCALARS:
        return value
    if isinstance(value, np.ndarray | th.Tensor):
        return {"tensor" if isinstance(value, th.Tensor) else "array": _add(value, arrays)}
    if isinstance(value, np.generic):
        return {"scalar": _add(np.asarray(value), arrays)}
    if isinstance(value, dict):
        return {"dict": [[pack(key, arrays), pack(part, arrays)] for key, part in value.items()]}
    if type(value) is list and len(value) > LONGEST_LIST and {type(part) for part in value} in ({float}, {int}):
        return {"numbers": _add(np.array(value), arrays)}
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [pack(part, arrays) for part in value]}
    raise TypeError(f"a training state holds no {type(value).__name__} ({value!r:.80})")


def _add(value: np.ndarray | th.Tensor, arrays: list[np.ndarray]) -> int:
    array = value.detach().cpu().numpy() if isinstance(value, th.Tensor) else value
    if array.dtype.hasobject:
        raise TypeError(f"a training state holds no array of Python objects ({array!r:.80})")
    arrays.append(array)
    return len(arrays) - 1


def unpack(packed: Any, arrays: list[np.ndarray]) -> Any:
    """
    :param packed: what :func:`pack` has returned
    :param arrays: what it has been given
    :return: the value; tuples with names have become plain ones, tensors are on the CPU
    """
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "dict":
        return {unpack(key, arrays): unpack(part, arrays) for key, part in content}
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(unpack(part, arrays) for part in content)
    array = arrays[content]
    if kind == "tensor":
        return th.from_numpy(array)
    return {"array": array, "scalar": array[()] if array.ndim == 0 else None, "numbers": array.tolist()}[kind]
