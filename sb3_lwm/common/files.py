"""Files that are written completely or not at all, and checks that a file is a complete model."""

import base64
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.save_util import open_path

Path = str | pathlib.Path | io.BufferedIOBase
REMEDY = "Use a file that LWMDQN.save has written to its end, such as the checkpoint before it."


@contextmanager
def whole_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """
    Write a file completely or not at all: a temporary file in the same folder is renamed if no exception was raised.

    :param path: The path of the file, which is replaced if it exists; its folder is created
    :return: The temporary file to write to, with the same suffix
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.part{path.suffix}")
    yield temporary
    os.replace(temporary, path)


def check_model_file(path: Path) -> dict[str, Any]:
    """
    Check that a file is a complete model of LWM-DQN, without reading its networks.

    :param path: The file, in the form for ``load``
    :return: The agent's attributes in the form in which SB3 saves them: plain values, and serialized values of other types
    :raises FileNotFoundError: If the file does not exist
    :raises ValueError: If it was cut short or is not such a model; the message names the file
    """
    file = open_path(path, "r", verbose=0, suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            # a file cut short may end with the directory of a network inside it, which zipfile takes for that of the file
            names = set(archive.namelist())
            if not {"data", "policy.pth", "policy.optimizer.pth"} <= names:
                raise ValueError(f"{path} is not a model, or was cut short: it holds {sorted(names)[:5]} only. {REMEDY}")
            data: dict[str, Any] = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a model, or was cut short ({error}). {REMEDY}") from error
    finally:
        if isinstance(path, str | pathlib.Path):
            file.close()
        else:
            file.seek(0)
    if "burn_in" not in data:
        raise ValueError(f"{path} is the model of another algorithm than LWMDQN: load it with its own class.")
    return data


def policy_of_version_0_1(data: dict[str, Any]) -> str | None:
    """
    :param data: The result of :func:`check_model_file`
    :return: The alias of the policy's class if sb3-lwm 0.1, whose classes had other modules, has written the file; else None
    """
    policy_class = data["policy_class"]
    if policy_class["__module__"] != "sb3_lwm.policies":
        return None
    pickled = base64.b64decode(policy_class[":serialized:"])
    return next((name for name in ("CnnPolicy", "MultiInputPolicy") if name.encode() in pickled), "MlpPolicy")
