"""Training states on the disk: whole or not there, checked, and taken over in parts."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import SHORT, make_labyrinths
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay_helpers import SPACES, STORAGES, Player, give_priorities, stored
from resume_helpers import go_on

from sb3_lwm import LWMDQN, PrioritizedSequenceReplayBuffer, SequenceReplayBuffer, TrainingStateCallback
from sb3_lwm.training_state import files, replay
from sb3_lwm.training_state.comparison import differences
from sb3_lwm.training_state.tree import pack, unpack

# --- The replay ---


def make_buffer(storage: str, prioritized: bool) -> SequenceReplayBuffer:
    arguments: dict[str, Any] = {"device": "cpu", "n_envs": 3, "sequence_length": 6}
    if storage == "zstd":
        arguments["compression"] = "zstd"
    if prioritized:
        arguments["stride"] = 4
    space = SPACES["image"]
    buffer_class = PrioritizedSequenceReplayBuffer if prioritized else SequenceReplayBuffer
    buffer = buffer_class(3 * 40, space, SPACES["discrete"], **arguments)  # type: ignore[arg-type]
    if storage == "torch":
        buffer.observations = STORAGES["torch"](buffer.buffer_size, 3, space)
    return buffer


def save(folder: Path, name: str, buffer: SequenceReplayBuffer, last: Any) -> tuple[Any, int]:
    previous, before = last or (None, None)
    with files.StateWriter(folder, name, previous) as writer:
        replay.save_rows(writer, buffer, before)
        arrays: list[np.ndarray] = []
        packed = pack(replay.counters(buffer), arrays)
        writer.write_arrays("counters.npy", arrays)
        state = writer.commit({"packed": packed})
    return (state, replay.mark(buffer)), writer.written_bytes


def load(state: files.SavedState, buffer: SequenceReplayBuffer) -> None:
    state = files.read_state(state.path)
    replay.load_rows(state, buffer, unpack(state.info["packed"], state.load_arrays("counters.npy")))


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("storage", STORAGES)
def test_replay_comes_back(storage: str, prioritized: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # blocks of 8 rows
    monkeypatch.setattr(replay, "BLOCK_BYTES", 100)
    player = Player(make_buffer(storage, prioritized))
    last = None
    for round_, steps in enumerate((0, 5, 1, 30, 2, 55, 9)):
        player.play(steps)
        if prioritized:
            give_priorities(player, priority=1.0 + round_)
        if round_ == 4:
            player.truncate()
        last, _ = save(tmp_path, f"state_{round_}", player.buffer, last)
        loaded = make_buffer(storage, prioritized)
        load(last[0], loaded)
        for name in ("observations", *loaded.ROW_ARRAYS):
            np.testing.assert_array_equal(stored(loaded, name), stored(player.buffer, name))
        for name in loaded.COUNTERS:
            np.testing.assert_array_equal(getattr(loaded, name), getattr(player.buffer, name))
        if isinstance(loaded, PrioritizedSequenceReplayBuffer) and loaded.states is not None:
            for part, other in zip(loaded.states, player.buffer.states, strict=True):  # type: ignore[attr-defined]
                np.testing.assert_array_equal(part, other)


def test_all_that_a_buffer_holds_is_declared() -> None:
    for prioritized in (False, True):
        buffer = make_buffer("host", prioritized)
        held = {name for name, value in vars(buffer).items() if isinstance(value, np.ndarray)} | {"pos", "full"}
        assert held == {*buffer.ROW_ARRAYS, *buffer.COUNTERS, "_envs"}


def test_what_has_not_changed_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BLOCK_BYTES", 100)
    player = Player(make_buffer("host", prioritized=False), end_chance=0.0)
    player.play(30)
    last, first_bytes = save(tmp_path, "state_30", player.buffer, None)
    player.play(2)
    newer, bytes_ = save(tmp_path, "state_32", player.buffer, last)
    assert bytes_ < 0.6 * first_bytes
    files.remove_states([last[0].path])
    loaded = make_buffer("host", prioritized=False)
    load(newer[0], loaded)
    np.testing.assert_array_equal(stored(loaded, "observations"), stored(player.buffer, "observations"))
    # a file system without hard links, and a buffer that has begun anew
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    player.play(1)
    copied, bytes_ = save(tmp_path, "state_33", player.buffer, newer)
    assert bytes_ < 0.6 * first_bytes
    load(copied[0], make_buffer("host", prioritized=False))
    player.buffer.reset()
    player.rows = [[] for _ in range(3)]
    player.play(33)
    _, bytes_ = save(tmp_path, "state_66", player.buffer, copied)
    assert bytes_ >= first_bytes


def test_another_replay_is_refused(tmp_path: Path) -> None:
    player = Player(make_buffer("host", prioritized=False))
    player.play(5)
    (state, _), _ = save(tmp_path, "state_5", player.buffer, None)
    with pytest.raises(ValueError, match=r"does not fit this agent: its class is SequenceReplayBuffer"):
        load(state, make_buffer("host", prioritized=True))


# --- Files ---


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: a folder with two states of one training"""
    folder = tmp_path_factory.mktemp("states")
    callback = TrainingStateCallback(folder, every_minutes=None, every_steps=80)
    LWMDQN("MlpPolicy", make_labyrinths(4), seed=0, **{**SHORT, "prioritized_replay": True}).learn(200, callback)
    assert {path.name for path in folder.iterdir()} == {"state_80", "state_160"}
    return folder


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_flipped_byte_is_found(states: Path, data: st.DataObject) -> None:
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
    return r"no complete training state"


def _other_format(state: Path) -> str:
    path = state / files.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    return r"manifest\.json is of format 99.*resume with the version that wrote it"


def _foreign(state: Path) -> str:
    (state / files.MANIFEST).write_text('{"kind": "holiday pictures"}')
    return r"manifest\.json is of something else"


@pytest.mark.parametrize("spoil", [_cut, _remove, _no_manifest, _other_format, _foreign])
def test_a_spoilt_state_is_passed_over(spoil: Any, states: Path, tmp_path: Path) -> None:
    folder = tmp_path / "states"
    shutil.copytree(states, folder)
    message = spoil(folder / "state_160")
    with pytest.warns(UserWarning, match=rf"{message}.* An older state is taken, state_80"):
        model = LWMDQN.load_training_state(folder, make_labyrinths(4), device="cpu")
    assert model.num_timesteps == 80 and model.last_training_state == folder / "state_80"
    go_on(model)
    assert {path.name for path in folder.iterdir()} == {"state_80", "state_112"}
    assert files.read_state(folder / "state_112").info["num_timesteps"] == 112
    for state in files.find_states(folder):
        spoil(state)
    with pytest.raises(ValueError, match=r"has no complete training state: .*state_112.*state_80"):
        LWMDQN.load_training_state(folder, make_labyrinths(4), device="cpu")


def test_no_state(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no training state: give"):
        LWMDQN.load_training_state(tmp_path, make_labyrinths(4))


@pytest.mark.parametrize("place", ["state_160", "", ".."])
def test_a_state_its_folder_or_its_run(place: str, states: Path, tmp_path: Path) -> None:
    shutil.copytree(states, tmp_path / files.STATES_FOLDER)
    model = LWMDQN.load_training_state(tmp_path / files.STATES_FOLDER / place, make_labyrinths(4), device="cpu")
    assert (model.num_timesteps, model.remaining_timesteps) == (160, 40)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        pytest.warns(RuntimeWarning, match=rf"No space left.*The training goes on.*{kept[0]}"),
    ):
        patch.setattr(os, "fsync", fill_up)
        model.learn(100, callback, reset_num_timesteps=False)
    assert synced >= 3 and model.num_timesteps >= 200
    assert sorted(folder.iterdir()) == sorted(kept)
    for state in kept:
        files.read_state(state)
    model.learn(100, callback, reset_num_timesteps=False)
    assert files.find_states(folder)[0] not in kept


# --- Values ---


def test_values_come_back() -> None:
    value = {
        "numbers": [0.1, float("inf"), -0.0, 2**200, True, None, "word"],
        3: (1, [2.5] * 200, {"deep": [np.float32(0.1), np.bool_(True)]}),
        "arrays": [np.arange(3, dtype=np.int8), th.tensor([1.5, 2.5]), th.tensor(3), np.zeros((0, 2))],
    }
    arrays: list[np.ndarray] = []
    back = unpack(json.loads(json.dumps(pack(value, arrays))), arrays)
    assert repr(back) == repr(value)
    for wrong in (object(), np.array([object()]), lambda: None):
        with pytest.raises(TypeError, match="a training state holds no"):
            pack({"x": [wrong]}, [])


def test_arguments_that_cannot_be_kept(tmp_path: Path) -> None:
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
    # what was loaded, written once more
    again = loaded.save_training_state(tmp_path / "again")
    assert again is not None and differences(path, again) == []
