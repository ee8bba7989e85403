"""Wherever Stable-Baselines3's DQN goes, LWMDQN goes: its arguments, its small trials, its environments, its policies."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, RandomEnv, changed, make_labyrinths, make_random_envs, weights
from replay_helpers import stored
from resume_helpers import assert_same_training, continue_training, train
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_lwm import LWMDQN, LatentWorldModelCallback, PrioritizedSequenceReplayBuffer
from sb3_lwm.common.type_aliases import SequenceSamples

DEFAULTS: dict[str, Any] = {"policy_kwargs": NETWORKS, "seed": 0, "device": "cpu"}


def make_model(n_envs: int = 1, **kwargs: Any) -> LWMDQN:
    return LWMDQN("MlpPolicy", make_random_envs(n_envs=n_envs), **{**DEFAULTS, **kwargs})


def spy_on_updates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that collects the numbers of rows and of sequences of each learned batch."""
    shapes: list[tuple[int, int]] = []
    td_errors = LWMDQN._td_errors

    def spy(model: LWMDQN, samples: SequenceSamples) -> th.Tensor:
        shapes.append((samples.rewards.shape[0], samples.rewards.shape[1]))
        return td_errors(model, samples)

    monkeypatch.setattr(LWMDQN, "_td_errors", spy)
    return shapes


# --- Small trials ---


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_learns_from_the_first_steps_on(prioritized_replay: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = spy_on_updates(monkeypatch)
    arguments = {"n_steps": 2, "burn_in": 3, "unroll": 8, "batch_size": 4, "prioritized_replay": prioritized_replay}
    model = make_model(learning_starts=0, train_freq=1, **arguments)
    before = weights(model.q_net)
    model.learn(30)
    # an n-step return needs three rows; sequences grow to 13 rows, and batches with the replay; episodes add final rows
    assert model._n_updates == 28 and shapes[0] == (3, 2) and shapes[-1][0] == 13
    assert [length for length, _ in shapes] == sorted(length for length, _ in shapes)
    assert all(count == 2 or length * count <= 30 + 30 // 7 for length, count in shapes) and shapes[-1][1] == 2
    assert {name for name in before if name.startswith("head.")} <= changed(before, weights(model.q_net))
    if prioritized_replay:
        assert isinstance(model.replay_buffer, PrioritizedSequenceReplayBuffer) and model.replay_buffer.weights.any()


@pytest.mark.parametrize("prioritized_replay", [False, True])
@pytest.mark.parametrize(("buffer_size", "n_envs"), [(100, 1), (100, 2), (40, 1), (12, 3), (2, 1)])
def test_learns_from_a_small_replay(buffer_size: int, n_envs: int, prioritized_replay: bool) -> None:
    model = make_model(n_envs, buffer_size=buffer_size, learning_starts=20, prioritized_replay=prioritized_replay)
    model.learn(20 + 40 * n_envs)
    buffer = model.replay_buffer
    assert buffer is not None and model._n_updates >= 10
    assert buffer.n_envs * buffer.buffer_size <= buffer_size and buffer.can_sample()
    assert all(th.isfinite(tensor).all() for tensor in model.policy.state_dict().values())


def test_replay_too_small_for_a_return() -> None:
    message = "buffer_size=7 is 3 rows for each of 2 environments, an n-step return needs 4: use buffer_size >= 8"
    with pytest.raises(ValueError, match=message):
        make_model(2, buffer_size=7, n_steps=3)
    assert make_model(2, buffer_size=8, n_steps=3, learning_starts=0).learn(40)._n_updates > 0


def test_replay_too_small_for_the_encoder() -> None:
    env = make_random_envs(spaces.Box(0, 255, (36, 36, 1), np.uint8))
    with pytest.raises(ValueError, match=r"buffer_size=20 is 20 rows .* a window of encoder_objective needs 32"):
        LWMDQN("CnnPolicy", env, buffer_size=20, encoder_objective="cpc")


def test_what_was_fitted_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(buffer_size=30, learning_starts=10, verbose=1).learn(12)
    model.learn(4, reset_num_timesteps=False)
    output = capsys.readouterr().out
    assert output.count("It is small: sequences have burn_in=8 and unroll=16.") == 1
    assert output.count("Until it holds 100 rows of an environment, sequences and pretraining windows are shorter.") == 1
    make_model(**{**SHORT, "verbose": 1}).learn(4)
    assert not any(word in capsys.readouterr().out for word in ("small", "shorter"))


@pytest.mark.parametrize(
    ("learning_starts", "expected"), [(0, 1), (9, 1), (100, 10), (9_999, 999), (10_000, 1000), (400_000, 1000)]
)
def test_default_of_the_pretraining(learning_starts: int, expected: int) -> None:
    callback = LatentWorldModelCallback(None, 64, 100, None)
    callback.model = make_model(learning_starts=learning_starts)
    assert callback.default_updates == expected


def test_pretraining_of_a_short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []
    sample_windows = LWMDQN.sample_windows

    def spy(model: LWMDQN, batch_size: int, sequence_length: int, *args: Any, **kwargs: Any) -> SequenceSamples:
        drawn.append((batch_size, sequence_length))
        return sample_windows(model, batch_size, sequence_length, *args, **kwargs)

    monkeypatch.setattr(LWMDQN, "sample_windows", spy)
    model = make_model(learning_starts=50, burn_in=0, unroll=10).learn(52)
    # 52 steps are 59 rows; the sixth batch sets the averages
    assert drawn == [(2, 59)] * 6
    assert model.policy.world_model is not None and int(model.policy.world_model.n_updates) == 5 + 1
    drawn.clear()
    make_model(learning_starts=50, burn_in=0, unroll=10, pretraining_updates=2, pretraining_sequence_length=20).learn(52)
    assert drawn == [(64, 20)] * 3


# --- Arguments of DQN ---


def test_target_network_moves_at_intervals() -> None:
    # every 4 steps of 2 environments
    model = make_model(2, **{**SHORT, "tau": 1.0, "target_update_interval": 8, "train_freq": 1, "learning_starts": 20})
    initial = weights(model.q_net_target)
    model.learn(22)
    assert not changed(initial, weights(model.q_net_target)) and changed(initial, weights(model.q_net))
    # after the update of step 22, and before that of step 24
    expected = weights(model.q_net)
    model.learn(2, reset_num_timesteps=False)
    assert not changed(expected, weights(model.q_net_target)) and changed(expected, weights(model.q_net))


def test_target_network_moves_with_each_update_by_default() -> None:
    model = make_model(**{**SHORT, "tau": 0.5, "train_freq": 1, "learning_starts": 20, "use_world_model": False}).learn(20)
    old = weights(model.q_net_target)
    model.learn(1, reset_num_timesteps=False)
    expected = {name: old[name].lerp(tensor, 0.5) for name, tensor in weights(model.q_net).items()}
    assert changed(old, expected)
    for name, tensor in weights(model.q_net_target).items():
        th.testing.assert_close(tensor, expected[name])


def test_warning_of_more_environments_than_steps_between_target_updates(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"The number of environments used is greater .*\(3 > 2\)"):
        make_model(3, target_update_interval=2).save(tmp_path / "model")
    assert LWMDQN.load(tmp_path / "model").target_update_interval == 2
    with pytest.raises(ValueError, match="target_update_interval=0: it must be an integer >= 1, or None"):
        make_model(target_update_interval=0)


def test_optimize_memory_usage_is_accepted(tmp_path: Path) -> None:
    arguments = {**SHORT, "optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    model = make_model(**arguments).learn(64)
    model.learn(4, reset_num_timesteps=False)
    with pytest.warns(UserWarning, match="The last trajectory in the replay buffer will be truncated"):
        model.learn(4)
    assert make_model(**SHORT).learn(64).learn(4).num_timesteps == 4
    model.save(tmp_path / "model")
    assert LWMDQN.load(tmp_path / "model", env=make_random_envs()).learn(4).optimize_memory_usage


def test_no_warning_of_a_small_trial() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_model(buffer_size=100, learning_starts=10).learn(50).learn(20)


# --- VecNormalize ---


class ScaledEnv(RandomEnv):
    """Observations and rewards far from unit size."""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return self._scaled(observation), info

    def step(self, action: int) -> Any:
        observation, reward, *rest = super().step(action)
        return self._scaled(observation), 30.0 * reward + 5.0, *rest

    def _scaled(self, observation: Any) -> Any:
        if isinstance(observation, dict):
            return {**observation, "vector": 10.0 * observation["vector"] + 20.0}
        return (10.0 * observation + 20.0).astype(np.float32)


UNBOUNDED = spaces.Box(-np.inf, np.inf, (3,))
DICT = spaces.Dict({"image": spaces.Box(0, 255, (36, 36, 1), np.uint8), "vector": spaces.Box(-1.0, 1.0, (2,))})


class Recorder(ScaledEnv):
    """Keeps every observation, reward and end, in the order in which the replay stores them."""

    def __init__(self, space: spaces.Space) -> None:
        super().__init__(space)
        self.rows: list[tuple[np.ndarray, float]] = []

    def reset(self, **kwargs: Any) -> Any:
        self.current, info = super().reset(**kwargs)
        return self.current, info

    def step(self, action: int) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.rows.append((self.current, reward))
        if terminated or truncated:
            self.rows.append((observation, 0.0))
        self.current = observation
        return observation, reward, terminated, truncated, info


def make_normalized(n_envs: int = 1, env_class: type[ScaledEnv] = ScaledEnv, **kwargs: Any) -> VecNormalize:
    env = DummyVecEnv([lambda: env_class(VECTOR) for _ in range(n_envs)])
    env.seed(0)
    return VecNormalize(env, **kwargs)


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_replay_stores_what_the_environments_gave_and_normalises_what_is_sampled(prioritized_replay: bool) -> None:
    env = make_normalized(env_class=Recorder)
    model = LWMDQN("MlpPolicy", env, seed=0, prioritized_replay=prioritized_replay, **SHORT).learn(120)
    buffer = model.replay_buffer
    assert buffer is not None and model._n_updates > 0
    rows = env.get_attr("rows")[0]
    assert len(rows) == buffer.written[0]
    observations, rewards = (np.array(part) for part in zip(*rows, strict=True))
    # the final observation of an episode comes back from the normalised one, which is rounded and may be clipped
    np.testing.assert_allclose(stored(buffer, "observations")[: len(rows), 0], observations, rtol=1e-4)
    np.testing.assert_allclose(buffer.rewards[: len(rows), 0], rewards, rtol=1e-6)
    assert abs(observations).mean() > 10.0

    samples = model._sample_sequences(4)
    assert model.num_timesteps == 120 and isinstance(samples.observations, th.Tensor)
    # by the statistics of now
    windows = buffer.sample_windows(3, 5)
    buffer.rng, again = np.random.default_rng(1), np.random.default_rng(1)
    normalized = model.sample_windows(3, 5)
    buffer.rng = again
    raw = buffer.sample_windows(3, 5)
    assert isinstance(raw.observations, th.Tensor) and isinstance(normalized.observations, th.Tensor)
    expected = env.normalize_obs(raw.observations.numpy())
    np.testing.assert_array_equal(normalized.observations.numpy(), expected)
    np.testing.assert_array_equal(normalized.rewards.numpy(), env.normalize_reward(raw.rewards.numpy()))
    assert normalized.observations.dtype == normalized.rewards.dtype == th.float32
    assert windows.rewards.max() > 5.0 > samples.rewards.max() and abs(samples.observations).max() < 5.0


def test_acting_and_the_replay_see_the_same_normalised_observations() -> None:
    env = make_normalized(training=False)
    env.obs_rms.mean, env.obs_rms.var = np.full(3, 20.0), np.full(3, 30.0)
    model = LWMDQN("MlpPolicy", env, seed=0, **{**SHORT, "learning_starts": 500}).learn(5)
    buffer = model.replay_buffer
    assert buffer is not None and model._last_obs is not None
    model.learn(1, reset_num_timesteps=False)
    newest = buffer.newest_windows(1, 1, env).observations
    assert isinstance(newest, th.Tensor)
    seen = env.normalize_obs(stored(buffer, "observations")[buffer.written[0] - 1])
    np.testing.assert_array_equal(newest[0].numpy(), seen)
    np.testing.assert_array_equal(model._last_original_obs, env.get_original_obs())


def test_parts_of_a_dictionary_are_normalised_by_their_keys() -> None:
    env = DummyVecEnv([lambda: ScaledEnv(DICT)])
    env.seed(0)
    # images are transposed outside of VecNormalize
    wrapped = VecTransposeImage(VecNormalize(env, norm_obs_keys=["vector"]))
    policy_kwargs = {**NETWORKS, "features_extractor_kwargs": {"cnn_output_dim": 8}}
    model = LWMDQN("MultiInputPolicy", wrapped, seed=0, **{**SHORT, "policy_kwargs": policy_kwargs}).learn(80)
    observations = model.sample_windows(4, 5).observations
    assert isinstance(observations, dict) and model._n_updates > 0
    assert observations["image"].dtype == th.uint8 and observations["image"].shape == (5, 4, 1, 36, 36)
    assert observations["vector"].dtype == th.float32 and abs(observations["vector"]).max() < 5.0
    assert model.replay_buffer is not None
    raw = model.replay_buffer.sample_windows(4, 5).observations
    assert isinstance(raw, dict) and raw["vector"].mean() > 10.0


def test_wrappers_that_change_what_was_normalised_are_refused() -> None:
    with pytest.raises(ValueError, match=r"VecFrameStack changes .*put VecNormalize around VecFrameStack"):
        LWMDQN("MlpPolicy", VecFrameStack(make_normalized(), 2))
    LWMDQN("MlpPolicy", VecNormalize(VecFrameStack(make_random_envs(), 2)), seed=0, **SHORT).learn(64)


@pytest.mark.parametrize("norm_obs", [True, False])
def test_normalised_training_is_resumed_to_the_last_bit(norm_obs: bool, tmp_path: Path) -> None:
    def make_env() -> VecNormalize:
        return VecNormalize(make_labyrinths(4, wrapper_class=gym.wrappers.FlattenObservation), norm_obs=norm_obs)

    unbroken = train(LWMDQN("MlpPolicy", make_env(), seed=0, **SHORT), tmp_path / "unbroken", 200, every_steps=10_000)
    train(LWMDQN("MlpPolicy", make_env(), seed=0, **SHORT), tmp_path / "broken", 200)
    loaded = LWMDQN.load_training_state(tmp_path / "broken" / "states" / "state_112", make_env(), device="cpu")
    resumed = continue_training(loaded)
    assert_same_training(unbroken, resumed, tmp_path / "states")


# --- Policies ---


def test_predict_returns_arrays() -> None:
    model = make_model()
    for deterministic in (True, False):
        action, _ = model.predict(np.zeros(3, dtype=np.float32), deterministic=deterministic)
        assert isinstance(action, np.ndarray) and action.shape == () and model.action_space.contains(action)
        actions, _ = model.predict(np.zeros((1, 3), dtype=np.float32), deterministic=deterministic)
        assert isinstance(actions, np.ndarray) and actions.shape == (1,)


@pytest.mark.parametrize("dueling", [True, False])
def test_q_network_answers_first_observations(dueling: bool, tmp_path: Path) -> None:
    model = make_model(**{**SHORT, "dueling": dueling}).learn(80)
    observations = np.random.default_rng(0).normal(scale=20.0, size=(40, 3)).astype(np.float32)
    model.policy.set_training_mode(False)
    q_values = model.q_net(th.as_tensor(observations))
    actions, _ = model.predict(observations, deterministic=True)
    assert q_values.shape == (40, 3) and len(np.unique(actions)) > 1
    np.testing.assert_array_equal(q_values.argmax(dim=-1).numpy(), actions)
    np.testing.assert_array_equal(model.q_net.predict(observations)[0], actions)
    np.testing.assert_array_equal(model.policy(th.as_tensor(observations)).numpy(), actions)
    # as it begins every episode
    starts = th.ones(40, dtype=th.bool)
    stepped, state = model.policy.step(th.as_tensor(observations), model.policy.initial_state(40), starts)
    th.testing.assert_close(stepped, q_values)
    np.testing.assert_array_equal(state.last_actions.numpy(), actions)
    for network in (model.q_net, model.policy):
        network.save(str(tmp_path / "network"))
        loaded = type(network).load(str(tmp_path / "network"), device="cpu")
        np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], actions)


def test_step_with_given_actions_is_what_acting_remembers() -> None:
    model = make_model(**SHORT).learn(80)
    policy = model.policy
    policy.set_training_mode(False)
    rng = np.random.default_rng(0)
    state = acted = policy.initial_state(4)
    for step in range(10):
        observations = th.as_tensor(rng.uniform(-1.0, 1.0, (4, 3)).astype(np.float32))
        starts = th.full((4,), step % 5 == 0)
        actions, acted = policy.act(observations, acted, starts, epsilons=0.7)
        q_values, state = policy.step(observations, state, starts, th.as_tensor(actions))
        assert q_values.shape == (4, 3)
        for part, other in zip(state, acted, strict=True):
            th.testing.assert_close(part, other, rtol=0, atol=0)


def test_net_arch_of_an_actor_and_a_critic() -> None:
    with pytest.raises(ValueError, match=r"net_arch=\{'pi': \[8\]\}: it must be a list of layer sizes"):
        make_model(policy_kwargs={"net_arch": {"pi": [8]}})


def test_weights_are_floats_as_those_of_other_policies() -> None:
    model = make_model(**SHORT).learn(80)
    assert {tensor.is_floating_point() for tensor in model.policy.state_dict().values()} == {True}
