"""The arguments of an agent as JSON: numbers and words, classes by name, schedules by what they hold."""

import sys
from typing import Any

SCALARS = (bool, int, float, str, type(None))


class UnsavableArgumentError(Exception):
    """An argument that a training state cannot hold."""


def pack_argument(value: Any) -> Any:
    """
    :param value: of an argument
    :return: the same for JSON
    :raises UnsavableArgumentError: if it is a function or something else that has no name or no simple parts
    """
    if type(value) in SCALARS:
        return value
    if isinstance(value, dict):
        return {"dict": [[pack_argument(key), pack_argument(part)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [pack_argument(part) for part in value]}
    if isinstance(value, type):
        return {"class": _name(value)}
    # a schedule of SB3 or of the Zoo
    if callable(value) and hasattr(value, "__dict__") and not hasattr(value, "__code__"):
        return {"object": [_name(type(value)), [[key, pack_argument(part)] for key, part in vars(value).items()]]}
    raise UnsavableArgumentError(f"{value!r:.80}")


def _name(value: type) -> str:
    if "<" in value.__qualname__:
        raise UnsavableArgumentError(f"{value!r:.80}")
    return f"{value.__module__}:{value.__qualname__}"


def unpack_argument(packed: Any) -> Any:
    """
    Nothing is imported or called for it: a class must be there already.

    :param packed: what :func:`pack_argument` has returned
    :return: the value
    :raises ValueError: if a class is not there
    """
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "dict":
        return {unpack_argument(key): unpack_argument(part) for key, part in content}
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(unpack_argument(part) for part in content)
    if kind == "class":
        return _find(content)
    name, attributes = content
    made: Any = object.__new__(_find(name))
    vars(made).update({key: unpack_argument(part) for key, part in attributes})
    return made


def _find(name: str) -> type:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ValueError(
            f"The training state names the class {qualname} of {module}, which is not there: import {module} first."
        )
    return found
