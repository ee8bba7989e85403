"""Files are written whole or not at all; those that are no model, or only a part of one, are refused by name."""

import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from stable_baselines3.common.save_util import open_path

Path = str | pathlib.Path | io.BufferedIOBase
REMEDY = "Use a file that LWMDQN.save has written to its end, such as the checkpoint before it."


@contextmanager
def whole_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """
    Write a file that appears when it is whole: to a temporary one beside it, which takes its name if nothing failed.

    :param path: of the file, replaced if there is one; its folder is made
    :return: the temporary file, to write to; it has the same suffix
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.part{path.suffix}")
    yield temporary
    os.replace(temporary, path)


def check_model_file(path: Path) -> None:
    """
    Look whether a file is a whole model of LWM-DQN, without reading its networks.

    :param path: as for ``load``
    :raises FileNotFoundError: if there is none
    :raises ValueError: if it is cut short or something else; names the file
    """
    file = open_path(path, "r", verbose=0, suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            # a file cut short may end with the directory of a network inside it, which zipfile takes for the whole
            names = set(archive.namelist())
            if not {"data", "policy.pth", "policy.optimizer.pth"} <= names:
                raise ValueError(f"{path} is no model, or was cut short: it holds {sorted(names)[:5]} only. {REMEDY}")
            if "burn_in" not in json.loads(archive.read("data")):
                raise ValueError(f"{path} is the model of another algorithm than LWMDQN: load it with its own class.")
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no model, or was cut short ({error}). {REMEDY}") from error
    finally:
        if isinstance(path, str | pathlib.Path):
            file.close()
        else:
            file.seek(0)
