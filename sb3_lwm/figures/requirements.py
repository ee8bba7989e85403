"""Packages that only pictures and videos need are imported when one is made."""

import importlib
from types import ModuleType

INSTALL = "pip install 'sb3-lwm[figures]'"


def require(module: str) -> ModuleType:
    """
    :param module: of a package of the extra ``figures``
    :return: the module
    :raises ImportError: if it is not installed; names the extra
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"Pictures and videos need {error.name or module}: {INSTALL}.") from error
