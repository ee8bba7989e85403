"""Training states on the disk: a state is a folder that is written completely or not at all, with checksums of its files."""

import contextlib
import errno
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from tqdm import tqdm

FORMAT = 2
KIND = "sb3-lwm training state"
MANIFEST = "manifest.json"
# The name of the folder of states inside the folder of a run
STATES_FOLDER = "states"
_NAME = re.compile(r"state_(\d+)(?:_(\d+))?")
# The prefixes of folders that an interrupted save or removal leaves behind
_LEFTOVERS = (".saving_", ".removing_")
_CHUNK = 1 << 20


class FileRecord(NamedTuple):
    """The size and the checksum of a file of a training state."""

    size: int  # number of bytes
    checksum: int  # CRC-32, which detects every single flipped byte at 2 GB/s; it does not protect against malice


class SavedState(NamedTuple):
    """A complete state on the disk."""

    path: Path
    info: Any  # the small data of :meth:`StateWriter.commit`
    files: dict[str, FileRecord]

    def load_arrays(self, name: str) -> list[np.ndarray]:
        """
        :param name: The name of a file of arrays
        :return: The arrays
        """
        arrays = []
        with open(self.path / name, "rb") as file:
            while file.tell() < self.files[name].size:
                arrays.append(np.load(file, allow_pickle=False))
        return arrays


class SpoiltStateError(ValueError):
    """Raised for a training state that cannot be read; the message names the file."""


class _ChecksumFile:
    """Writes into another file, and computes the size and the checksum of the data."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = self.checksum = 0

    def write(self, data: Any) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        written = self._file.write(data)
        self.size += written
        return written

    def flush(self) -> None:
        self._file.flush()


class StateWriter:
    """
    Writes a state into a temporary folder, which is renamed when all its files are on the disk.

    :param folder: The folder of the states
    :param name: The name of the new state
    :param previous: A state whose files :meth:`keep` may take over
    """

    def __init__(self, folder: Path, name: str, previous: SavedState | None = None) -> None:
        self._previous = previous
        self.folder = folder
        self._path = folder / name
        self._temporary = folder / f".saving_{name}"
        self._files: dict[str, FileRecord] = {}
        # the number of bytes that were written, without the files taken over
        self.written_bytes = 0
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)

    def __enter__(self) -> "StateWriter":
        return self

    def __exit__(self, *_: object) -> None:
        # ignored: a commit has renamed the folder
        shutil.rmtree(self._temporary, ignore_errors=True)

    def write(self, name: str, write: Callable[[Any], None]) -> None:
        """
        :param name: The name of a new file
        :param write: The function that writes into the open file
        """
        with open(self._temporary / name, "wb") as file:
            checked = _ChecksumFile(file)
            write(checked)
            file.flush()
            os.fsync(file.fileno())
        self._files[name] = FileRecord(checked.size, checked.checksum)
        self.written_bytes += checked.size

    def write_arrays(self, name: str, arrays: list[np.ndarray]) -> None:
        """
        :param name: The name of a new file, in NumPy's format, one array after the other
        :param arrays: The arrays, without Python objects
        """

        def write(file: Any) -> None:
            for array in arrays:
                np.save(file, array, allow_pickle=False)

        self.write(name, write)

    def keep(self, name: str) -> bool:
        """
        :param name: The name of a file that has not changed since the previous state
        :return: Whether it could be taken over from that state
        """
        if self._previous is None or name not in self._previous.files:
            return False
        old, new = self._previous.path / name, self._temporary / name
        try:
            os.link(old, new)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            # the file system has no hard links
            shutil.copyfile(old, new)
        self._files[name] = self._previous.files[name]
        return True

    def commit(self, info: Any) -> SavedState:
        """
        :param info: Small data for the manifest, which JSON can represent
        :return: The state, which is now on the disk
        """
        content = {"kind": KIND, "format": FORMAT, "info": info, "files": self._files}
        text = json.dumps({**content, "checksum": _checksum_of(content)})
        with open(self._temporary / MANIFEST, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(self._temporary)
        os.rename(self._temporary, self._path)
        _sync_folder(self._path.parent)
        return SavedState(self._path, info, self._files)


def _checksum_of(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _sync_folder(path: Path) -> None:
    # Windows cannot open folders
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_state(path: Path) -> SavedState:
    """
    Read a state's manifest, and check all of its files.

    :param path: The folder of the state
    :return: The state
    :raises SpoiltStateError: If it is not complete, of another format, or not a training state
    """
    state = _read_manifest(path)
    total = sum(record.size for record in state.files.values())
    with tqdm(total=total, desc=f"Checking {path.name}", unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for name, record in state.files.items():
            _check_file(path / name, record, bar.update)
    return state


def _read_manifest(path: Path) -> SavedState:
    manifest = path / MANIFEST
    try:
        content = json.loads(manifest.read_bytes())
    except FileNotFoundError:
        raise SpoiltStateError(f"{path} is not a complete training state: it has no {MANIFEST}.") from None
    except ValueError as error:
        raise SpoiltStateError(f"{manifest} is spoilt: {error}.") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise SpoiltStateError(f"{manifest} is not the manifest of a training state of sb3-lwm.")
    if content.get("format") != FORMAT:
        raise SpoiltStateError(
            f"{manifest} has format {content.get('format')}, this version of sb3-lwm reads format {FORMAT}: "
            "resume with the version that wrote it."
        )
    if content.pop("checksum", None) != _checksum_of(content):
        raise SpoiltStateError(f"{manifest} is spoilt: its checksum does not match.")
    return SavedState(path, content["info"], {name: FileRecord(*record) for name, record in content["files"].items()})


def _check_file(path: Path, record: FileRecord, progress: Callable[[float], object]) -> None:
    size = checksum = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
                progress(len(chunk))
    except OSError as error:
        raise SpoiltStateError(f"{path} cannot be read: {error}.") from error
    if size != record.size:
        raise SpoiltStateError(f"{path} was cut short or changed: it has {size} bytes instead of {record.size}.")
    if checksum != record.checksum:
        raise SpoiltStateError(f"{path} is spoilt: its checksum does not match.")


def _number(path: Path) -> tuple[int, int] | None:
    """Return the number of steps in a state's name and its rank among the states with this number; None for other names."""
    found = _NAME.fullmatch(path.name)
    return None if found is None else (int(found[1]), int(found[2] or 1))


def find_states(folder: Path) -> list[Path]:
    """
    :param folder: A folder of states
    :return: The folders in it that have the name of a state, the newest first
    """
    numbered = [(number, path) for path in folder.glob("state_*") if (number := _number(path)) is not None]
    return [path for _, path in sorted(numbered, reverse=True)]


def name_for(folder: Path, num_timesteps: int) -> str:
    """
    :param folder: A folder of states
    :param num_timesteps: The number of steps of the training so far
    :return: The name of the next state
    """
    numbers = [_number(path) for path in find_states(folder)]
    serial = max([number[1] for number in numbers if number and number[0] == num_timesteps], default=0) + 1
    return f"state_{num_timesteps}" if serial == 1 else f"state_{num_timesteps}_{serial}"


def candidates(path: Path) -> Iterator[Path]:
    """
    :param path: The folder of a state, of several states, or of a run
    :return: The states, the newest first
    :raises ValueError: If there are none
    """
    if (path / MANIFEST).exists() or _number(path) is not None:
        yield path
        return
    states = find_states(path) or find_states(path / STATES_FOLDER)
    if not states:
        raise ValueError(f"{path} has no training state: give a folder state_<steps>, a folder of states, or that of a run.")
    yield from states


def remove_states(paths: list[Path]) -> None:
    """
    :param paths: The folders of states that are no longer needed
    """
    for path in paths:
        # renamed first, so that a partly removed state is never taken for a whole one
        hidden = path.with_name(f".removing_{path.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        os.rename(path, hidden)
        shutil.rmtree(hidden)


def remove_leftovers(folder: Path) -> None:
    """
    :param folder: A folder of states, in which no other training saves its states
    """
    for prefix in _LEFTOVERS:
        for path in folder.glob(f"{prefix}state_*"):
            shutil.rmtree(path)
