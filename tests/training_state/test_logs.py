"""Logs of a resumed training continue at its training state."""

import csv
import json
from pathlib import Path

import numpy as np
from stable_baselines3.common.logger import Logger, configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lwm.training_state.logs import logger_state, restore_pending, resume_logger
from sb3_lwm.training_state.packing import pack, unpack


def log(logger: Logger, step: int, **values: float) -> None:
    for name, value in values.items():
        logger.record(name, value)
    logger.dump(step)


def test_resumed_logs_continue_at_the_state(tmp_path: Path) -> None:
    folder = tmp_path / "states"
    folder.mkdir()
    logger = configure(str(tmp_path / "log"), ["csv", "json", "log", "tensorboard"])
    log(logger, 1, loss=1.0)
    log(logger, 2, loss=2.0, reward=5.0)
    logger.record("rate", np.float32(0.1), exclude="tensorboard")
    logger.record_mean("error", 3.0)
    arrays: list[np.ndarray] = []
    state = unpack(json.loads(json.dumps(pack(logger_state(logger, folder), arrays))), arrays)
    # logged after the state, and removed when the training resumes
    log(logger, 3, loss=-1.0, late=7.0)
    logger.close()

    logger = resume_logger(state, folder, num_timesteps=2)
    restore_pending(logger, state)
    logger.record_mean("error", 5.0)
    log(logger, 3, loss=3.0)
    log(logger, 4, loss=4.0)
    logger.close()
    with open(tmp_path / "log" / "progress.csv", newline="", encoding="utf-8") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    assert rows == [
        {"loss": "1.0"},
        {"loss": "2.0", "reward": "5.0"},
        {"loss": "3.0", "rate": "0.1", "error": "4.0"},
        {"loss": "4.0"},
    ]
    lines = [json.loads(line) for line in (tmp_path / "log" / "progress.json").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [1.0, 2.0, 3.0, 4.0] and "late" not in str(lines)
    text = (tmp_path / "log" / "log.txt").read_text()
    assert text.count("loss") == 4 and "late" not in text
    events = EventAccumulator(str(tmp_path / "log")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert "late" not in events.Tags()["scalars"] or events.Scalars("late") == []


def test_missing_logs_start_empty(tmp_path: Path) -> None:
    logger = configure(str(tmp_path / "log"), ["csv", "stdout"])
    log(logger, 1, loss=1.0)
    state = logger_state(logger, tmp_path)
    logger.close()
    (tmp_path / "log" / "progress.csv").unlink()
    logger = resume_logger(state, tmp_path, num_timesteps=1)
    log(logger, 2, loss=2.0)
    logger.close()
    assert (tmp_path / "log" / "progress.csv").read_text().splitlines()[-1] == "2.0"
