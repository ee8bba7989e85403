"""Late import of the packages that only figures and videos need."""

import importlib
from types import ModuleType

INSTALL = "pip install 'sb3-lwm[figures]'"


def require(module: str) -> ModuleType:
    """
    :param module: The name of a module from a package of the extra ``figures``
    :return: The module
    :raises ImportError: If it is not installed; the message names the extra
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"Pictures and videos need {error.name or module}: {INSTALL}.") from error
