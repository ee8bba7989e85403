"""A training state on the disk: a folder that is there as a whole or not at all, with a checksum of every file."""

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
# In the folder of a run
STATES_FOLDER = "states"
_NAME = re.compile(r"state_(\d+)(?:_(\d+))?")
# What a save or a removal that was cut short leaves behind
_LEFTOVERS = (".saving_", ".removing_")
_CHUNK = 1 << 20


class FileRecord(NamedTuple):
    """What a file must be."""

    size: int  # bytes
    checksum: int  # CRC-32, which finds every single flipped byte at 2 GB/s; it is no protection against malice


class SavedState(NamedTuple):
    """A complete state on the disk."""

    path: Path
    info: Any  # small data
    files: dict[str, FileRecord]

    def load_arrays(self, name: str) -> list[np.ndarray]:
        """
        :param name: of a file of arrays
        :return: the arrays
        """
        arrays = []
        with open(self.path / name, "rb") as file:
            while file.tell() < self.files[name].size:
                arrays.append(np.load(file, allow_pickle=False))
        return arrays


class SpoiltStateError(ValueError):
    """A training state that cannot be read. The message names the file."""


class _ChecksumFile:
    """Passes on what is written into it, and counts it."""

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
    Writes a state into a folder beside its place, which gets its name when everything is on the disk.

    :param folder: of the states
    :param name: of this one
    :param previous: a state whose files may be taken over
    """

    def __init__(self, folder: Path, name: str, previous: SavedState | None = None) -> None:
        self._previous = previous
        self.folder = folder
        self._path = folder / name
        self._temporary = folder / f".saving_{name}"
        self._files: dict[str, FileRecord] = {}
        # bytes that were written, not taken over
        self.written_bytes = 0
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)

    def __enter__(self) -> "StateWriter":
        return self

    def __exit__(self, *_: object) -> None:
        # gone already after a commit
        shutil.rmtree(self._temporary, ignore_errors=True)

    def write(self, name: str, write: Callable[[Any], None]) -> None:
        """
        :param name: of a new file
        :param write: is given the open file
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
        :param name: of a new file, in NumPy's format, one array after the other
        :param arrays: without Python objects
        """

        def write(file: Any) -> None:
            for array in arrays:
                np.save(file, array, allow_pickle=False)

        self.write(name, write)

    def keep(self, name: str) -> bool:
        """
        :param name: of a file that has not changed since the previous state
        :return: whether it could be taken over from there
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
            # a file system without hard links
            shutil.copyfile(old, new)
        self._files[name] = self._previous.files[name]
        return True

    def commit(self, info: Any) -> SavedState:
        """
        :param info: small data, for JSON
        :return: the state, which is now on the disk
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
    Read a state's small data, and check all of its files.

    :param path: of the state
    :return: the state
    :raises SpoiltStateError: if it is not whole, of another format, or something else; names the file
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
        raise SpoiltStateError(f"{path} is no complete training state: it has no {MANIFEST}.") from None
    except ValueError as error:
        raise SpoiltStateError(f"{manifest} is spoilt: {error}.") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise SpoiltStateError(f"{manifest} is of something else than a training state of sb3-lwm.")
    if content.get("format") != FORMAT:
        raise SpoiltStateError(
            f"{manifest} is of format {content.get('format')}, this version of sb3-lwm reads format {FORMAT}: "
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
    """:return: steps, and which of the states after so many steps; None for anything else"""
    found = _NAME.fullmatch(path.name)
    return None if found is None else (int(found[1]), int(found[2] or 1))


def find_states(folder: Path) -> list[Path]:
    """
    :param folder: of states
    :return: what is called as a state, the newest first
    """
    numbered = [(number, path) for path in folder.glob("state_*") if (number := _number(path)) is not None]
    return [path for _, path in sorted(numbered, reverse=True)]


def name_for(folder: Path, num_timesteps: int) -> str:
    """
    :param folder: of states
    :param num_timesteps: of the training so far
    :return: the name of the next state
    """
    numbers = [_number(path) for path in find_states(folder)]
    serial = max([number[1] for number in numbers if number and number[0] == num_timesteps], default=0) + 1
    return f"state_{num_timesteps}" if serial == 1 else f"state_{num_timesteps}_{serial}"


def candidates(path: Path) -> Iterator[Path]:
    """
    :param path: of a state, of a folder of states, or of a run
    :return: the states, the newest first
    :raises ValueError: if there is none
    """
    if (path / MANIFEST).exists() or _number(path) is not None:
        yield path
        return
    states = find_states(path) or find_states(path / STATES_FOLDER)
    if not states:
        raise ValueError(f"{path} has no training state: give a folder state_<steps>, one that holds such, or that of a run.")
    yield from states


def remove_states(paths: list[Path]) -> None:
    """
    :param paths: of states that nobody needs any more
    """
    for path in paths:
        # first the name, so that no part of a state is ever taken for one
        hidden = path.with_name(f".removing_{path.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        os.rename(path, hidden)
        shutil.rmtree(hidden)


def remove_leftovers(folder: Path) -> None:
    """
    :param folder: of states, in which nobody else is saving
    """
    for prefix in _LEFTOVERS:
        for path in folder.glob(f"{prefix}state_*"):
            shutil.rmtree(path)
