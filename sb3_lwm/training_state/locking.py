"""Locks that stop a second training from writing into the folder of states and the logs of a running one."""

import warnings
from pathlib import Path

from filelock import FileLock, Timeout


def lock_folder(folder: Path) -> FileLock:
    """
    :param folder: A folder of states
    :return: The lock, which the caller must release
    :raises ValueError: If another training holds the lock
    """
    # the lock's file is beside the folder; the lock is released when its process ends, in whatever way
    folder = folder.resolve()
    lock = FileLock(folder.parent / f".{folder.name}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder} is in use: a training that is still running saves its states there. Wait for its end, or stop it, or "
            "give another folder."
        ) from None
    except (OSError, NotImplementedError) as error:
        warnings.warn(f"{folder} cannot be locked ({error}): use it for this training only.", stacklevel=2)
    return lock


def check_unused(folder: Path) -> None:
    """
    :param folder: A folder of states, possibly a read-only one
    :raises ValueError: If a running training saves its states there
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lock_folder(folder).release()
