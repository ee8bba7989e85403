"""Recordings of play: they are written, read and replayed, and files that do not fit are refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atari_helpers import FIRST_ROOM

from sb3_lwm.envs.atari.play import join, make_atari, play_game, play_randomly
from sb3_lwm.envs.atari.recording import Recording, load, record, replay, save

pytest.importorskip("cv2")

# RAM of Montezuma's Revenge, as annotated by AtariARI (Anand et al., arXiv:1906.08226); the number of lives left is byte 58
ROOM, X, Y, LIVES, ITEMS = 3, 42, 43, 58, 65
KEY = 2


@pytest.fixture(scope="module")
def recording() -> Recording:
    actions = np.random.default_rng(0).integers(18, size=400)
    return record("MontezumaRevengeNoFrameskip-v4", 3, actions.tolist())


def test_saved_recording_is_loaded(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "play.json"
    save(recording, path)
    assert load(path) == load(path, "ALE/MontezumaRevenge-v5") == recording
    assert [file.name for file in path.parent.iterdir()] == ["play.json"] and path.stat().st_size < 3000


def test_replay_equals_the_play(recording: Recording) -> None:
    left = iter(recording.actions)
    played = play_game(make_atari("montezuma_revenge"), 3, lambda observation, is_start: next(left, None))
    replayed = replay(recording)
    for name in ("frames", "actions", "rams", "episodes"):
        np.testing.assert_array_equal(getattr(replayed, name), getattr(played, name))
    # an observation before each action, and one at the end of each episode
    ends = np.flatnonzero(np.diff(replayed.episodes, append=-1))
    assert len(ends) > 1 and len(replayed.frames) == 400 + len(ends)
    np.testing.assert_array_equal(np.delete(replayed.actions, ends), recording.actions)


def test_joined_plays() -> None:
    plays = [play_randomly("montezuma_revenge", 1, seed) for seed in (0, 1)]
    joined = join(plays)
    assert joined.episodes[-1] == 1 and (np.diff(joined.episodes) >= 0).all() and joined.n_actions == 18
    np.testing.assert_array_equal(joined.frames, np.concatenate([play.frames for play in plays]))


def test_recording_that_ships() -> None:
    """The walk that ships: down to the lower floor, up to the key, all the way back and through a door, in one life."""
    play = replay(load(FIRST_ROOM, "ALE/MontezumaRevenge-v5"))
    assert (play.rams[:, ROOM] == 1).all() and (play.rams[:, LIVES] == play.rams[0, LIVES]).all() and not play.episodes.any()
    x, y, has_key = play.rams[:, X], play.rams[:, Y], play.rams[:, ITEMS] == KEY
    taken, used = np.flatnonzero(np.diff(has_key.astype(int)))
    # from the platform in the middle, over the floor from right to left, to the ledge of the key
    assert y[0] > 230 and x[:taken][y[:taken] < 155].max() > 100 and x[taken] < 30 and y[taken] > 190
    # back over the floor, and out on the right
    assert y[taken:used].min() < 155 and x[-1] > 140 and y[-1] > 230


def test_recording_of_a_changed_game_is_refused(recording: Recording) -> None:
    changed = recording._replace(actions=(*recording.actions[:-5], *([3] * 5)), made_with={"ale_py": "0.1"})
    with pytest.raises(ValueError, match=r"montezuma_revenge differs from the recorded game.*'ale_py': '0.1'"):
        replay(changed)


def test_recording_of_another_game_is_refused() -> None:
    with pytest.raises(ValueError, match="is a recording of montezuma_revenge, not of freeway: choose"):
        load(FIRST_ROOM, "ALE/Freeway-v5")


def test_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere.json")


def edited(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:-20], "is not a recording of an Atari game"),
        (lambda text: "[1, 2]", "is not a recording of an Atari game"),
        (edited(version=2), r"its format is .*'version': 2.*, not .*'version': 1"),
        (edited(actions=[0, "1"]), "seed and actions must be integers"),
        (edited(seed=0.5), "seed and actions must be integers"),
        (edited(actions=[]), "not a single action"),
        (edited(actions=[0, 18]), "Action 18 .* from 0 to 17, NOOP, FIRE"),
        (edited(game="chess"), "no Atari game 'chess'"),
    ],
)
def test_spoilt_recordings_are_refused(edit: Callable[[str], str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "play.json"
    path.write_text(edit(FIRST_ROOM.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(path)


def test_empty_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="play at least one step"):
        record("freeway", 0, [])
