"""Files are written whole or not at all; those that are no model, or only a part of one, are refused by name."""

import base64
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


def check_model_file(path: Path) -> str | None:
    """
    Check that a file is a whole model of LWM-DQN, without reading its networks.

    :param path: The file, as for ``load``
    :return: The alias of the policy's class if sb3-lwm 0.1 has written the file, whose classes had other modules; else None
    :raises FileNotFoundError: If there is no such file
    :raises ValueError: If it was cut short or is something else; names the file
    """
    file = open_path(path, "r", verbose=0, suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            # a file cut short may end with the directory of a network inside it, which zipfile takes for the whole
            names = set(archive.namelist())
            if not {"data", "policy.pth", "policy.optimizer.pth"} <= names:
                raise ValueError(f"{path} is not a model, or was cut short: it holds {sorted(names)[:5]} only. {REMEDY}")
            data = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a model, or was cut short ({error}). {REMEDY}") from error
    finally:
        if isinstance(path, str | pathlib.Path):
            file.close()
        else:
            file.seek(0)
    if "burn_in" not in data:
        raise ValueError(f"{path} is the model of another algorithm than LWMDQN: load it with its own class.")
    return _policy_of_version_0_1(data["policy_class"])


def _policy_of_version_0_1(policy_class: dict[str, str]) -> str | None:
    """Return the alias of a policy class that was pickled by its module of sb3-lwm 0.1, else None."""
    if policy_class["__module__"] != "sb3_lwm.policies":
        return None
    pickled = base64.b64decode(policy_class[":serialized:"])
    return next((name for name in ("CnnPolicy", "MultiInputPolicy") if name.encode() in pickled), "MlpPolicy")
