"""One training writes its states into a folder, and its logs beside it: another one would take them for given up."""

import warnings
from pathlib import Path

from filelock import FileLock, Timeout


def lock_folder(folder: Path) -> FileLock:
    """
    :param folder: of states
    :return: a lock, to be released
    :raises ValueError: if another training holds it
    """
    # beside the folder; released when its process ends, in whatever way
    folder = folder.resolve()
    lock = FileLock(folder.parent / f".{folder.name}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder} is in use: a training that is still running writes its states there. Wait for its end, or stop it, or "
            "give another folder."
        ) from None
    except (OSError, NotImplementedError) as error:
        warnings.warn(f"{folder} cannot be locked ({error}): let no other training write its states there.", stacklevel=2)
    return lock


def check_unused(folder: Path) -> None:
    """
    :param folder: of states, which may lie where nobody can write
    :raises ValueError: if a training writes there
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lock_folder(folder).release()
