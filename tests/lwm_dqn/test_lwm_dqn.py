"""The agent with every observation space, vector environment, callback and logger of Stable-Baselines3."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from atari_helpers import SHORT_ATARI
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, RandomEnv, changed, make_random_envs, weights
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lwm import LWMDQN, AtariVecEnv, PrioritizedSequenceReplayBuffer, SequenceReplayBuffer

IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "reward": spaces.Box(-1.0, 1.0, (2,)), "room": spaces.Discrete(3)})
# policy, space, arguments of the features extractor that keep it small
SPACES: dict[str, tuple[str, spaces.Space, dict[str, Any]]] = {
    "vector": ("MlpPolicy", VECTOR, {}),
    "unbounded matrix": ("MlpPolicy", spaces.Box(-np.inf, np.inf, (2, 3)), {}),
    "double precision": ("MlpPolicy", spaces.Box(-1.0, 1.0, (3,), np.float64), {}),
    "integers": ("MlpPolicy", spaces.Box(0, 9, (3,), np.int64), {}),
    "discrete": ("MlpPolicy", spaces.Discrete(4), {}),
    "multi-discrete": ("MlpPolicy", spaces.MultiDiscrete([3, 2]), {}),
    "multi-binary": ("MlpPolicy", spaces.MultiBinary(3), {}),
    "grey image": ("CnnPolicy", IMAGE, {"features_dim": 8}),
    "colour image": ("CnnPolicy", spaces.Box(0, 255, (36, 36, 3), np.uint8), {"features_dim": 8}),
    "dictionary": ("MultiInputPolicy", DICT, {"cnn_output_dim": 8}),
}


# learn(200) with an update every 4 steps of the vector environment: after steps 64, 68 ... 200, or 72, 84 ... 204
UPDATES = {1: 35, 3: 12}


@pytest.mark.parametrize(("n_envs", "prioritized_replay"), [(1, False), (3, True)])
@pytest.mark.parametrize("kind", SPACES)
def test_learns_from_every_observation_space(kind: str, n_envs: int, prioritized_replay: bool) -> None:
    policy, space, extractor_kwargs = SPACES[kind]
    env = make_random_envs(space, n_envs)
    policy_kwargs = {**NETWORKS, "features_extractor_kwargs": extractor_kwargs}
    arguments = {**SHORT, "policy_kwargs": policy_kwargs, "prioritized_replay": prioritized_replay}
    model = LWMDQN(policy, env, seed=0, **arguments)
    assert model.policy.world_model is not None
    q_net, predictor = weights(model.q_net), weights(model.policy.world_model.predictor)
    model.learn(200)

    assert model.num_timesteps == -(-200 // (4 * n_envs)) * 4 * n_envs
    assert model._n_updates == UPDATES[n_envs]
    assert type(model.replay_buffer) is (PrioritizedSequenceReplayBuffer if prioritized_replay else SequenceReplayBuffer)
    # the head's weights have a gradient whatever is observed
    assert {name for name in q_net if name.startswith("head.")} <= changed(q_net, weights(model.q_net))
    assert changed(predictor, weights(model.policy.world_model.predictor)) >= {"head.0.weight", "memory.cell.weight_hh"}
    assert all(th.isfinite(tensor).all() for tensor in model.policy.state_dict().values())

    # the frames of one environment come as they are, channels last; those of the vector environment are transposed
    action, state = model.predict(space.sample())
    assert np.shape(action) == () and space is not None and env.action_space.contains(np.int64(action))
    assert all(len(part) == 1 for part in state)
    actions, state = model.predict(env.reset())
    assert actions.shape == (n_envs,) and all(len(part) == n_envs for part in state)


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_vector_environments(vec_env_cls: type[DummyVecEnv] | type[SubprocVecEnv], n_envs: int) -> None:
    # make_vec_env would put a Monitor around each environment, for which VecMonitor has a warning
    env = VecMonitor(vec_env_cls([partial(RandomEnv, VECTOR)] * n_envs))
    model = LWMDQN("MlpPolicy", env, seed=0, **SHORT).learn(200)
    env.close()
    assert model._n_updates == UPDATES[n_envs]
    assert model.ep_info_buffer is not None and {info["l"] for info in model.ep_info_buffer} == {RandomEnv.EPISODE_LENGTH}
    buffer = model.replay_buffer
    assert buffer is not None
    # every seventh step ends an episode, by turns by a termination and by a time-out; each has a row of its own besides
    n_episodes = model.num_timesteps // n_envs // RandomEnv.EPISODE_LENGTH
    np.testing.assert_array_equal(buffer.written, model.num_timesteps // n_envs + n_episodes)
    np.testing.assert_array_equal(buffer.finals.sum(axis=0), n_episodes)
    np.testing.assert_array_equal(buffer.terminations.sum(axis=0), (n_episodes + 1) // 2)


def test_only_discrete_actions() -> None:
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(2), spaces.Box(-1.0, 1.0, (2,)))])
    with pytest.raises(AssertionError, match=r"only supports .*Discrete.* as action spaces but Box.* was provided"):
        LWMDQN("MlpPolicy", env, **SHORT)


@pytest.mark.parametrize(
    ("train_freq", "gradient_steps", "expected"),
    [
        # rollouts that end after step 60, times updates
        (4, 1, 15),
        (4, 3, 15 * 3),
        (4, -1, 15 * 4),
        ((2, "step"), 1, 30),
        ((1, "episode"), 1, 10),
        ((2, "episode"), -1, 5 * 14),
    ],
)
def test_update_schedule(train_freq: Any, gradient_steps: int, expected: int) -> None:
    model = LWMDQN("MlpPolicy", make_random_envs(), **{**SHORT, "train_freq": train_freq, "gradient_steps": gradient_steps})
    assert model.learn(120)._n_updates == expected


def test_episodes_of_one_step_in_the_smallest_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # half of the rows are predicted by nothing: the normaliser may get a single error, which has no standard deviation
    monkeypatch.setattr(RandomEnv, "EPISODE_LENGTH", 1)
    arguments = {**SHORT, "burn_in": 0, "unroll": 2, "batch_size": 1, "pretraining_updates": 0}
    model = LWMDQN("MlpPolicy", make_random_envs(), seed=0, **arguments).learn(200)
    assert all(th.isfinite(tensor).all() for tensor in model.policy.state_dict().values())


# --- Callbacks ---


@pytest.mark.parametrize("use_world_model", [True, False])
def test_callbacks_that_are_functions_or_lists(use_world_model: bool) -> None:
    seen: list[int] = []

    def stop_at_90(local_variables: dict[str, Any], _: dict[str, Any]) -> bool:
        seen.append(local_variables["self"].num_timesteps)
        return len(seen) < 90

    model = LWMDQN("MlpPolicy", make_random_envs(), use_world_model=use_world_model, **SHORT).learn(200, callback=stop_at_90)
    assert model.num_timesteps == 90 and seen == list(range(1, 91))
    seen.clear()
    callbacks: list[BaseCallback | Any] = [StopTrainingOnMaxEpisodes(max_episodes=5), stop_at_90]
    if use_world_model:
        # SB3 itself takes no functions in a list
        assert model.learn(200, callback=callbacks).num_timesteps == 35 == len(seen)
    assert model.learn(200, callback=[StopTrainingOnMaxEpisodes(max_episodes=5)]).num_timesteps == 35


def test_episode_that_a_stopped_training_cuts_short_is_closed() -> None:
    # SB3 does not store the step at which a callback stops it, here the last one of an episode
    model = LWMDQN("MlpPolicy", make_random_envs(), **SHORT).learn(200, callback=StopTrainingOnMaxEpisodes(max_episodes=2))
    model.learn(20, reset_num_timesteps=False)
    buffer = model.replay_buffer
    assert buffer is not None
    rows = int(buffer.written[0])
    finals = np.flatnonzero(buffer.finals[:rows, 0])
    assert np.diff(finals, prepend=-1).max() <= RandomEnv.EPISODE_LENGTH + 1
    np.testing.assert_array_equal(np.flatnonzero(buffer.episode_starts[:rows, 0]), [0, *(finals + 1)[finals + 1 < rows]])


def test_evaluation_callback(tmp_path: Path) -> None:
    model = LWMDQN("MlpPolicy", make_random_envs(n_envs=2), seed=0, **SHORT)
    callback = EvalCallback(
        # another number of environments than in training: the memory is sized from the observation
        make_random_envs(n_envs=3),
        n_eval_episodes=4,
        eval_freq=50,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        deterministic=False,
        verbose=0,
    )
    model.learn(200, callback=callback)
    evaluations = np.load(tmp_path / "evaluations.npz")
    np.testing.assert_array_equal(evaluations["timesteps"], [100, 200])
    assert (evaluations["ep_lengths"] == RandomEnv.EPISODE_LENGTH).all() and evaluations["ep_lengths"].shape == (2, 4)
    assert LWMDQN.load(tmp_path / "best_model").num_timesteps in (100, 200)


def test_stop_on_reward_threshold() -> None:
    stop = StopTrainingOnRewardThreshold(reward_threshold=-1.0)
    callback = EvalCallback(make_random_envs(), callback_on_new_best=stop, eval_freq=80, n_eval_episodes=1, verbose=0)
    assert LWMDQN("MlpPolicy", make_random_envs(), **SHORT).learn(200, callback=callback).num_timesteps == 80


def test_checkpoints(tmp_path: Path) -> None:
    callback = CheckpointCallback(save_freq=50, save_path=str(tmp_path), name_prefix="lwm", save_replay_buffer=True)
    LWMDQN("MlpPolicy", make_random_envs(n_envs=2), **SHORT).learn(200, callback=callback)
    model = LWMDQN.load(tmp_path / "lwm_100_steps", env=make_random_envs(n_envs=2))
    model.load_replay_buffer(tmp_path / "lwm_replay_buffer_100_steps")
    assert model.num_timesteps == 100 and model.replay_buffer is not None
    # SB3 calls its callbacks before the step is stored
    np.testing.assert_array_equal(model.replay_buffer.written, 49 + 49 // 7)
    # the next multiple of 4 steps of 2 environments
    assert model.learn(100, reset_num_timesteps=False).num_timesteps == 204


# --- Logs ---

SCALARS = {
    *("train/loss", "train/grad_norm", "train/n_updates", "rollout/exploration_rate", "rollout/ep_rew_mean"),
    *("world_model/loss", "world_model/n_updates", "world_model/error_mean", "world_model/error_std"),
    *("world_model/intrinsic_reward_mean", "world_model/intrinsic_reward_max"),
}


def test_logs(tmp_path: Path) -> None:
    model = LWMDQN("MlpPolicy", make_random_envs(), **SHORT)
    model.set_logger(configure(str(tmp_path), ["csv", "tensorboard"]))
    model.learn(200)
    model.logger.close()
    with open(tmp_path / "progress.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) >= SCALARS
    # the warm-up has nothing to say about learning, the rest has finite numbers only
    assert rows[0]["train/loss"] == "" and rows[0]["rollout/ep_rew_mean"] != ""
    assert all(np.isfinite(float(rows[-1][name])) for name in SCALARS)
    # the last dump is at the end of episode 28, after step 196; the update of that step comes later
    assert int(rows[-1]["train/n_updates"]) == 33 and int(rows[-1]["world_model/n_updates"]) == 3 + 33
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) >= SCALARS - {"train/n_updates"}


def test_tensorboard_folder_has_the_name_of_the_algorithm(tmp_path: Path) -> None:
    LWMDQN("MlpPolicy", make_random_envs(), tensorboard_log=str(tmp_path), **SHORT).learn(20)
    assert [path.name for path in tmp_path.iterdir()] == ["LWMDQN_1"]


def test_coverage_is_logged() -> None:
    env = AtariVecEnv("montezuma_revenge", 2, seed=0, max_episode_steps=10, ram_envs=2)
    model = LWMDQN("CnnPolicy", env, **{**SHORT_ATARI, "learning_starts": 100})
    model.learn(60, log_interval=10_000)
    values: dict[str, Any] = {}
    model.logger.dump = lambda step=0: values.update(model.logger.name_to_value)  # type: ignore[method-assign]
    model.dump_logs()
    assert values["rollout/rooms_mean"] == 1.0 and values["rollout/ep_len_mean"] == 10.0
    assert values["rollout/cells_total"] == len(env.coverage.cells)
