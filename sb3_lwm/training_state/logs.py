"""The logger in a training state: a resumed training appends to the same files, cut back to the time of the state."""

import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    JSONOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
)

from sb3_lwm.common.files import whole_file

PENDING = ("name_to_value", "name_to_count", "name_to_excluded")


def logger_state(logger: Logger, folder: Path) -> dict[str, Any]:
    """
    :param logger: The logger of a training
    :param folder: The folder of its states, to which the paths of logs are relative
    :return: The values that are recorded but not written yet, and the place and size of each log
    """
    # only numbers and strings are kept, not pictures and videos
    kept = [name for name, value in logger.name_to_value.items() if isinstance(value, (int, float, str, np.generic))]
    formats = [_format_state(output, folder) for output in logger.output_formats if isinstance(output, KVWriter)]
    return {
        "folder": None if logger.dir is None else os.path.relpath(logger.dir, folder),
        "formats": [part for part in formats if part is not None],
        "pending": {
            part: {name: getattr(logger, part)[name] for name in kept if name in getattr(logger, part)} for part in PENDING
        },
    }


def _format_state(output: KVWriter, folder: Path) -> dict[str, Any] | None:
    if isinstance(output, TensorBoardOutputFormat):
        return {"kind": "tensorboard", "path": os.path.relpath(output.writer.log_dir, folder)}
    if isinstance(output, HumanOutputFormat) and not output.own_file:
        return {"kind": "stdout"}
    for kind, known in (("log", HumanOutputFormat), ("json", JSONOutputFormat), ("csv", CSVOutputFormat)):
        if isinstance(output, known):
            output.file.flush()
            path = Path(output.file.name)
            # a table is rewritten when it gets a new column, so its size in rows is kept, not in bytes
            keys = list(output.keys) if isinstance(output, CSVOutputFormat) else []
            rows = len(path.read_text(encoding="utf-8").splitlines()) if keys else 0
            return {
                "kind": kind,
                "path": os.path.relpath(path, folder),
                "size": path.stat().st_size,
                "keys": keys,
                "rows": rows,
            }
    return None


def resume_logger(state: dict[str, Any], folder: Path, num_timesteps: int) -> Logger:
    """
    Remove all that was logged after the state, and open the logs again. A missing log is created.

    :param state: The result of :func:`logger_state`
    :param folder: The folder of the states
    :param num_timesteps: The number of steps of the training when the state was saved
    :return: A logger that appends to these logs
    """
    formats: list[KVWriter] = [_reopen(part, folder, num_timesteps) for part in state["formats"]]
    return Logger(None if state["folder"] is None else os.path.normpath(folder / state["folder"]), formats)


def restore_pending(logger: Logger, state: dict[str, Any]) -> None:
    """
    :param logger: The logger of the resumed training
    :param state: The result of :func:`logger_state`
    """
    for name in PENDING:
        getattr(logger, name).update(state["pending"][name])


def _reopen(part: dict[str, Any], folder: Path, num_timesteps: int) -> KVWriter:
    if part["kind"] == "stdout":
        return HumanOutputFormat(sys.stdout)
    path = Path(os.path.normpath(folder / part["path"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    if part["kind"] == "tensorboard":
        output = TensorBoardOutputFormat(str(path))
        output.writer.close()
        # TensorBoard hides the values of these steps in earlier files
        output.writer = type(output.writer)(log_dir=str(path), purge_step=num_timesteps + 1)
        return output
    path.touch()
    if part["kind"] == "csv":
        _cut_table(path, part["keys"], part["rows"])
    else:
        os.truncate(path, min(part["size"], path.stat().st_size))
    # opened here, because the constructors would empty the file
    file = open(path, "r+", encoding="utf-8", newline="")
    file.seek(0, os.SEEK_END)
    if part["kind"] == "csv":
        table = CSVOutputFormat(os.devnull)
        table.file.close()
        table.file, table.keys = file, list(part["keys"])
        return table
    if part["kind"] == "json":
        lines = JSONOutputFormat(os.devnull)
        lines.file.close()
        lines.file = file
        return lines
    human = HumanOutputFormat(file)
    human.own_file = True
    return human


def _cut_table(path: Path, keys: list[str], n_rows: int) -> None:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[:n_rows]
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([row[: len(keys)] for row in rows])
