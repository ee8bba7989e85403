"""Settings that are given to load count for a loaded replay, or are refused by their names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import SHORT, make_random_envs

from sb3_lwm import LWMDQN, PrioritizedSequenceReplayBuffer

PRIORITIZED = {**SHORT, "prioritized_replay": True}


def save(folder: Path, **kwargs: Any) -> LWMDQN:
    model = LWMDQN("MlpPolicy", make_random_envs(n_envs=2), seed=0, **{**PRIORITIZED, **kwargs}).learn(120)
    model.save(folder / "model")
    model.save_replay_buffer(folder / "replay")
    return model


def load(folder: Path, **kwargs: Any) -> LWMDQN:
    model = LWMDQN.load(folder / "model", env=make_random_envs(n_envs=2), **kwargs)
    model.load_replay_buffer(folder / "replay")
    return model


def test_exponents_are_applied(tmp_path: Path) -> None:
    old = save(tmp_path, priority_exponent=0.8).replay_buffer
    model = load(tmp_path, priority_exponent=0.4, importance_exponent=0.1)
    buffer = model.replay_buffer
    assert isinstance(old, PrioritizedSequenceReplayBuffer) and isinstance(buffer, PrioritizedSequenceReplayBuffer)
    assert (buffer.priority_exponent, buffer.importance_exponent) == (0.4, 0.1)
    assert np.count_nonzero(old.weights) > 5 and old.weights.std() > 0.0
    # p^0.4 is the root of p^0.8, and what is not to be drawn stays so
    np.testing.assert_allclose(buffer.weights, np.sqrt(old.weights))
    model.learn(40, reset_num_timesteps=False)
    assert load(tmp_path).replay_buffer.priority_exponent == 0.8  # type: ignore[union-attr]


def test_priorities_that_were_not_kept_are_not_made_up(tmp_path: Path) -> None:
    save(tmp_path, priority_exponent=0.0)
    assert load(tmp_path, importance_exponent=0.2).replay_buffer.importance_exponent == 0.2  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"priority_exponent=0\.9: .*with priority_exponent=0"):
        load(tmp_path, priority_exponent=0.9)


def test_time_outs_count_as_the_agent_says(tmp_path: Path) -> None:
    save(tmp_path)
    model = load(tmp_path, replay_buffer_kwargs={"handle_timeout_termination": False})
    assert model.replay_buffer is not None and not model.replay_buffer.handle_timeout_termination


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"buffer_size": 700}, "buffer_size is 996, the agent needs 696"),
        ({"compression": "zstd"}, "compression is None, the agent needs zstd"),
        ({"unroll": 9}, "stride is 6, the agent needs 9"),
        ({"prioritized_replay": False}, "__class__ is .*Prioritized"),
    ],
)
def test_what_cannot_be_applied_is_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(ValueError, match=f"does not fit this agent: its {message}"):
        load(tmp_path, **given)


def test_another_device_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    model = LWMDQN.load(tmp_path / "model", env=make_random_envs(n_envs=2))
    buffer = model.replay_buffer
    assert buffer is not None and (buffer.storage_device, buffer.compression) == ("cpu", None)
    model.storage_device = "meta"
    with pytest.raises(ValueError, match="its storage_device is cpu, the agent needs meta"):
        model.load_replay_buffer(tmp_path / "replay")
