"""The replay and the agent do the same wherever the observations are stored."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from helpers import SHORT, changed, make_random_envs, weights
from replay_helpers import N_ACTIONS, SPACES, STORAGES, Player, stored

from sb3_lwm import LWMDQN
from sb3_lwm.replay.observation_storage import CompressedStorage
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer


@pytest.mark.parametrize("space", ["image", "dict"])
@pytest.mark.parametrize("kind", ["torch", "zstd"])
def test_the_replay_returns_the_same_from_every_storage(kind: str, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def play() -> list[np.ndarray]:
        buffer = SequenceReplayBuffer(87, SPACES[space], spaces.Discrete(N_ACTIONS), "cpu", 3, sequence_length=7)
        player = Player(buffer, seed=1, end_chance=[0.0, 0.2, 0.7])
        np.random.seed(2)
        results = []
        for play in range(30):
            player.play(1 + play % 5)
            if play % 7 == 6:
                player.truncate()
            if buffer.can_sample():
                samples = buffer.sample(10)
                player.check(samples, 0)
                parts = samples.observations.values() if isinstance(samples.observations, dict) else [samples.observations]
                results += [part.numpy() for part in (*parts, samples.rewards, samples.finals)]
        assert buffer.full
        buffer.reset()
        player = Player(buffer, seed=3)
        player.play(9)
        for column in range(10):
            player.check(buffer.sample(10), column)
        return results

    expected = play()
    monkeypatch.setattr(
        "sb3_lwm.replay.sequence_buffer.make_storage", lambda rows, n_envs, space, *_: STORAGES[kind](rows, n_envs, space)
    )
    for result, other in zip(play(), expected, strict=True):
        np.testing.assert_array_equal(result, other)


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_compression_changes_nothing_for_the_agent(prioritized_replay: bool, tmp_path: Any) -> None:
    def learn(**kwargs: Any) -> LWMDQN:
        env = make_random_envs(n_envs=4)
        return LWMDQN("MlpPolicy", env, seed=0, prioritized_replay=prioritized_replay, **SHORT, **kwargs).learn(100)

    plain, compressed = learn(), learn(replay_buffer_kwargs={"compression": "zstd"})
    assert not changed(weights(plain.policy), weights(compressed.policy))
    assert plain.replay_buffer is not None and compressed.replay_buffer is not None
    assert isinstance(compressed.replay_buffer.observations, CompressedStorage)
    compressed.save_replay_buffer(tmp_path / "replay")
    compressed.load_replay_buffer(tmp_path / "replay")
    np.testing.assert_array_equal(*(stored(agent.replay_buffer, "observations") for agent in (plain, compressed)))
