"""Actions that are sent before an update: the same games, one update of lag, and nothing lost at the ends of a training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from atari_helpers import SHORT_ATARI
from helpers import changed, make_labyrinths, weights
from replay_helpers import stored

from sb3_lwm import LWMDQN, AtariVecEnv


def make_model(**kwargs: Any) -> LWMDQN:
    env = AtariVecEnv("montezuma_revenge", 2, seed=0, max_episode_steps=30)
    return LWMDQN("CnnPolicy", env, seed=0, **{**SHORT_ATARI, **kwargs})


def rows(model: LWMDQN) -> list[Any]:
    buffer = model.replay_buffer
    assert buffer is not None
    return [stored(buffer, "observations"), buffer.actions, buffer.rewards, buffer.episode_starts, buffer.finals]


def test_same_games_while_nothing_is_learned() -> None:
    models = [make_model(step_ahead=step_ahead, learning_starts=120).learn(120) for step_ahead in (False, True)]
    for expected, ahead in zip(*map(rows, models), strict=True):
        np.testing.assert_array_equal(expected, ahead)


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_learns_and_stores_what_was_played(prioritized_replay: bool) -> None:
    model = make_model(step_ahead=True, prioritized_replay=prioritized_replay)
    played: list[np.ndarray] = []
    assert isinstance(model.env, AtariVecEnv)
    step_wait = model.env.step_wait

    def wait() -> Any:
        assert model.env._chosen is not None  # type: ignore[union-attr]
        played.append(model.env._chosen.copy())  # type: ignore[union-attr]
        return step_wait()

    model.env.step_wait = wait  # type: ignore[method-assign]
    before = weights(model.policy)
    model.learn(100)
    assert changed(before, weights(model.policy)) and model._n_updates > 10
    assert model._sent_actions is None and model.env._chosen is None and len(played) == 50
    buffer = model.replay_buffer
    assert buffer is not None and buffer.written.max() < buffer.buffer_size
    for env in range(2):
        kept = buffer.actions[: buffer.written[env], env][~buffer.finals[: buffer.written[env], env]]
        assert kept.tolist() == [int(actions[env]) for actions in played]


def test_going_on_and_beginning_anew() -> None:
    model = make_model(step_ahead=True).learn(60)
    model.learn(20, reset_num_timesteps=False)
    assert model.num_timesteps == 80
    model.learn(40)
    assert model.num_timesteps == 40


def test_stopped_by_a_callback_and_started_again() -> None:
    model = make_model(step_ahead=True)
    model.learn(100, callback=lambda variables, _: variables["self"].num_timesteps < 50)
    assert model.num_timesteps == 50
    model.learn(50, reset_num_timesteps=False)
    # whole rollouts of 4 steps
    assert model.num_timesteps == 102


def test_same_seed_same_run() -> None:
    first, second = (make_model(step_ahead=True).learn(80) for _ in range(2))
    assert changed(weights(first.policy), weights(second.policy)) == set()


def test_other_environments_cannot() -> None:
    model = LWMDQN("MlpPolicy", make_labyrinths(), step_ahead=True)
    with pytest.raises(ValueError, match=r"step_ahead=True needs an AtariVecEnv, not .*use step_ahead=False"):
        model.learn(10)


def test_rooms_are_logged() -> None:
    env = AtariVecEnv("montezuma_revenge", 2, seed=0, max_episode_steps=10, ram_envs=2)
    model = LWMDQN("CnnPolicy", env, **{**SHORT_ATARI, "learning_starts": 100})
    model.learn(60, log_interval=10_000)
    values: dict[str, Any] = {}
    model.logger.dump = lambda step=0: values.update(model.logger.name_to_value)  # type: ignore[method-assign]
    model.dump_logs()
    assert values["rollout/rooms_mean"] == 1.0 and values["rollout/ep_len_mean"] == 10.0


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((1, 84, 80), np.uint8), "Unexpected observation shape"),
        (np.zeros((84, 84), np.uint8), r"Unexpected observation shape \(84, 84\).*\(1, 84, 84\)"),
        (np.zeros((1, 84, 84), np.float32), "float32.*uint8"),
    ],
)
def test_other_frames_are_refused(frames: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model().predict(frames)


def test_switches_change_nothing_but_precision_and_speed() -> None:
    plain, mixed = make_model(), make_model(mixed_precision=True)
    observations = th.randint(0, 256, (2, 1, 84, 84), dtype=th.uint8)
    features = [model.q_net.extract_features(observations, model.q_net.features_extractor) for model in (plain, mixed)]
    assert not th.equal(*features)
    th.testing.assert_close(*features, atol=0.02, rtol=0.05)


@pytest.mark.slow
# of torch.compile itself
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_networks_learn_and_load(tmp_path: Path) -> None:
    model = make_model(compile_networks=True).learn(40)
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model")
    assert loaded.compile_networks and model._n_updates > 0
    frame = np.full((1, 84, 84), 100, np.uint8)
    assert loaded.predict(frame, deterministic=True)[0] == model.predict(frame, deterministic=True)[0]
