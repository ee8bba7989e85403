"""Training states on the disk: every fault is found, and the newest complete state is loaded."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import SHORT, make_labyrinths
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resume_helpers import continue_training

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.training_state import files
from sb3_lwm.training_state.comparison import differences

# --- Files ---


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two states of one training."""
    folder = tmp_path_factory.mktemp("states")
    callback = TrainingStateCallback(folder, every_minutes=None, every_steps=80)
    LWMDQN("MlpPolicy", make_labyrinths(4), seed=0, **{**SHORT, "prioritized_replay": True}).learn(200, callback)
    assert {path.name for path in folder.iterdir()} == {"state_80", "state_160"}
    return folder


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_byte_is_found(states: Path, data: st.DataObject) -> None:
    state = states / "state_160"
    path = data.draw(st.sampled_from(sorted(state.iterdir())))
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    flipped = bytes([content[position] ^ data.draw(st.integers(1, 255))])
    try:
        path.write_bytes(content[:position] + flipped + content[position + 1 :])
        with pytest.raises(files.SpoiltStateError, match=path.name):
            files.read_state(state)
    finally:
        path.write_bytes(content)


def _cut(state: Path) -> str:
    path = next(state.glob("replay_rows_*"))
    os.truncate(path, path.stat().st_size - 1)
    return rf"{path.name} was cut short"


def _remove(state: Path) -> str:
    (state / "agent.json").unlink()
    return r"agent\.json cannot be read"


def _no_manifest(state: Path) -> str:
    (state / files.MANIFEST).unlink()
    return r"not a complete training state"


def _other_format(state: Path) -> str:
    path = state / files.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    return r"manifest\.json has format 99.*resume with the version that wrote it"


def _foreign(state: Path) -> str:
    (state / files.MANIFEST).write_text('{"kind": "holiday pictures"}')
    return r"manifest\.json is not the manifest of a training state"


@pytest.mark.parametrize("spoil", [_cut, _remove, _no_manifest, _other_format, _foreign])
def test_older_state_replaces_a_spoilt_one(spoil: Any, states: Path, tmp_path: Path) -> None:
    folder = tmp_path / "states"
    shutil.copytree(states, folder)
    message = spoil(folder / "state_160")
    with pytest.warns(UserWarning, match=rf"{message}.* An older state is used, state_80"):
        model = LWMDQN.load_training_state(folder, make_labyrinths(4), device="cpu")
    assert model.num_timesteps == 80 and model.last_training_state == folder / "state_80"
    continue_training(model)
    assert {path.name for path in folder.iterdir()} == {"state_80", "state_112"}
    assert files.read_state(folder / "state_112").info["num_timesteps"] == 112
    for state in files.find_states(folder):
        spoil(state)
    with pytest.raises(ValueError, match=r"has no complete training state: .*state_112.*state_80"):
        LWMDQN.load_training_state(folder, make_labyrinths(4), device="cpu")


def test_states_of_version_0_1_are_refused(states: Path, tmp_path: Path) -> None:
    state = tmp_path / "state_160"
    shutil.copytree(states / "state_160", state)
    manifest = state / files.MANIFEST
    content = json.loads(manifest.read_text())
    assert content["format"] == files.FORMAT == 2
    manifest.write_text(json.dumps({**content, "format": 1}))
    message = r"has format 1, this version of sb3-lwm reads format 2: resume with the version that wrote it"
    for path in (state, tmp_path):
        with pytest.raises(ValueError, match=rf"has no complete training state: .*manifest\.json {message}"):
            LWMDQN.load_training_state(path, make_labyrinths(4))


def test_folder_without_states(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no training state: give"):
        LWMDQN.load_training_state(tmp_path, make_labyrinths(4))


@pytest.mark.parametrize("place", ["state_160", "", ".."])
def test_path_of_a_state_its_folder_or_its_run(place: str, states: Path, tmp_path: Path) -> None:
    shutil.copytree(states, tmp_path / files.STATES_FOLDER)
    model = LWMDQN.load_training_state(tmp_path / files.STATES_FOLDER / place, make_labyrinths(4), device="cpu")
    assert (model.num_timesteps, model.remaining_timesteps) == (160, 40)


def test_training_continues_with_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "states"
    model = LWMDQN("MlpPolicy", make_labyrinths(4), seed=0, **SHORT)
    model.learn(100, TrainingStateCallback(folder, every_minutes=None, every_steps=50))
    kept = files.find_states(folder)
    synced = 0

    def fill_up(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced % 3 == 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    callback = TrainingStateCallback(folder, every_minutes=None, every_steps=50)
    with (
        monkeypatch.context() as patch,
        pytest.warns(RuntimeWarning, match=rf"No space left.*The training continues.*{kept[0]}"),
    ):
        patch.setattr(os, "fsync", fill_up)
        model.learn(100, callback, reset_num_timesteps=False)
    assert synced >= 3 and model.num_timesteps >= 200
    assert sorted(folder.iterdir()) == sorted(kept)
    for state in kept:
        files.read_state(state)
    model.learn(100, callback, reset_num_timesteps=False)
    assert files.find_states(folder)[0] not in kept


# --- Arguments ---


def test_arguments_that_cannot_be_saved_must_be_given(tmp_path: Path) -> None:
    def rate_of(progress: float) -> float:
        return 1e-3 * progress

    model = LWMDQN("MlpPolicy", make_labyrinths(4), seed=0, **{**SHORT, "learning_rate": rate_of}).learn(100)
    path = model.save_training_state(tmp_path)
    assert path is not None
    with pytest.raises(
        ValueError, match=r"cannot hold learning_rate=.*load_training_state\(path, env, learning_rate=\.\.\.\)"
    ):
        LWMDQN.load_training_state(path, make_labyrinths(4))
    loaded = LWMDQN.load_training_state(path, make_labyrinths(4), learning_rate=rate_of, device="cpu")
    assert loaded.learning_rate is rate_of
    # the loaded agent, saved again
    again = loaded.save_training_state(tmp_path / "again")
    assert again is not None and differences(path, again) == []
