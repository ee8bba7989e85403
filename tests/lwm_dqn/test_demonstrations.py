"""The replay before learn, and episodes that something else has played."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, SHORT, VECTOR, RandomEnv, make_random_envs
from replay_helpers import stored
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lwm import LWMDQN, PrioritizedSequenceReplayBuffer, SequenceReplayBuffer

IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "vector": VECTOR, "room": spaces.Discrete(3)})


def play(space: spaces.Space, length: int = RandomEnv.EPISODE_LENGTH, seed: int = 0) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return the observations, actions and rewards of an episode."""
    env, rng = RandomEnv(space), np.random.default_rng(seed)
    observations, actions, rewards = [env.reset(seed=seed)[0]], rng.integers(3, size=length), []
    for action in actions:
        observation, reward, *_ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    if isinstance(space, spaces.Dict):
        return {key: np.stack([each[key] for each in observations]) for key in space}, actions, np.array(rewards)
    return np.stack(observations), actions, np.array(rewards)


def make_model(n_envs: int = 2, space: spaces.Space = VECTOR, **kwargs: Any) -> LWMDQN:
    policy = {spaces.Dict: "MultiInputPolicy", spaces.Box: "MlpPolicy"}[type(space)]
    return LWMDQN(policy, make_random_envs(space, n_envs), seed=0, **{**SHORT, **kwargs})


def test_the_replay_is_there_before_learn() -> None:
    model = make_model()
    buffer = model.replay_buffer
    assert isinstance(buffer, SequenceReplayBuffer) and buffer is model.replay_buffer and buffer.size() == 0
    observations = np.ones((2, 3), dtype=np.float32)
    buffer.add(observations, observations, np.zeros(2), np.ones(2), np.ones(2, dtype=bool), [{}, {}])
    model.learn(4)
    assert model.replay_buffer is buffer
    # an episode of one step, and a rollout
    np.testing.assert_array_equal(buffer.written, [2 + 4, 2 + 4])
    with pytest.raises(ValueError, match=r"LWMDQN\.add_episode"):
        prioritized = make_model(prioritized_replay=True).replay_buffer
        assert prioritized is not None
        prioritized.add(observations, observations, np.zeros(2), np.ones(2), np.ones(2, dtype=bool), [{}, {}])


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("space", [VECTOR, DICT], ids=["vector", "dictionary"])
def test_an_episode_is_stored_row_by_row(space: spaces.Space, terminated: bool) -> None:
    policy_kwargs = {**NETWORKS, **({"features_extractor_kwargs": {"cnn_output_dim": 8}} if space is DICT else {})}
    model = make_model(space=space, policy_kwargs=policy_kwargs)
    for seed in range(3):
        observations, actions, rewards = play(space, 4, seed)
        model.add_episode(observations, actions, rewards, terminated)
    buffer = model.replay_buffer
    assert buffer is not None
    # shared out between the environments: the last one is the second of environment 0
    np.testing.assert_array_equal(buffer.written, [10, 5])
    np.testing.assert_array_equal(buffer.actions[5:10, 0], [*actions, 0])
    np.testing.assert_array_equal(buffer.rewards[5:10, 0], [*rewards, 0.0])
    np.testing.assert_array_equal(buffer.episode_starts[5:10, 0], [True, False, False, False, False])
    np.testing.assert_array_equal(buffer.finals[5:10, 0], [False, False, False, False, True])
    assert buffer.terminations[:10, 0].sum() == 2 * terminated and buffer.terminations[9, 0] == terminated
    rows = buffer.newest_windows(5, 1).observations
    if isinstance(rows, dict):
        np.testing.assert_array_equal(rows["image"][:, 0, 0].numpy(), observations["image"][..., 0])
        np.testing.assert_array_equal(rows["room"].flatten().numpy(), observations["room"])
    else:
        np.testing.assert_array_equal(rows[:, 0].numpy(), observations)


def test_hidden_states_are_those_of_acting_in_the_episode() -> None:
    # one sequence a row: every hidden state is stored
    model = make_model(1, prioritized_replay=True, burn_in=0, unroll=2).learn(80)
    assert isinstance(model.replay_buffer, PrioritizedSequenceReplayBuffer)
    buffer = model.replay_buffer
    model.learn(4)
    observations, actions, rewards = play(VECTOR, 12, seed=5)
    first = int(buffer.written[0])
    model.add_episode(observations, actions, rewards)
    states = model.policy.states_along(observations, actions)
    state, expected = model.policy.initial_state(1), []
    model.policy.set_training_mode(False)
    for row, action in enumerate(actions):
        expected.append(state)
        _, state = model.policy.step(
            th.as_tensor(observations[row : row + 1]), state, th.tensor([row == 0]), th.as_tensor(action).reshape(1)
        )
    expected.append(state)
    assert len(states) == len(expected) == 13 and not np.array_equal(states[-1].hidden, states[1].hidden)
    assert buffer.states is not None
    for row in range(first + first % 2, first + 13, 2):
        for part, stored_part in zip(expected[row - first], buffer.states, strict=True):
            th.testing.assert_close(th.as_tensor(stored_part[row // 2 % len(stored_part), 0]), part[0], rtol=0, atol=0)


@pytest.mark.parametrize("prioritized_replay", [False, True])
def test_an_agent_learns_from_demonstrations_alone(prioritized_replay: bool) -> None:
    model = make_model(1, prioritized_replay=prioritized_replay, learning_starts=0, pretraining_updates=2, train_freq=1)
    for seed in range(20):
        model.add_episode(*play(VECTOR, seed=seed))
    model.learn(1)
    assert model._n_updates == 1 and model.policy.world_model is not None
    assert int(model.policy.world_model.n_updates) == 2 + 1


def test_episodes_under_way_end_as_by_a_time_out() -> None:
    model = make_model(2).learn(4)
    buffer = model.replay_buffer
    assert buffer is not None and not model.replay_buffer._next_is_start.any()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="An episode is under way"):
        buffer.add_episode(np.zeros((2, 3)), np.zeros(1), np.zeros(1), True, [model.policy.initial_state(1)] * 2)
    model.add_episode(*play(VECTOR, 3))
    assert not model.knows_environments()
    # after a rollout of 4 steps
    np.testing.assert_array_equal(buffer.finals[:8].sum(axis=0), [2, 1])
    assert buffer.finals[3].all() and not buffer.terminations[3].any() and buffer.terminations[7, 0]
    model.learn(4, reset_num_timesteps=False)
    np.testing.assert_array_equal(buffer.episode_starts[:12].sum(axis=0), [3, 2])


def test_demonstrations_are_normalised_like_everything_else() -> None:
    env = VecNormalize(DummyVecEnv([lambda: RandomEnv(VECTOR)]))
    env.obs_rms.mean, env.obs_rms.var = np.full(3, 20.0), np.full(3, 4.0)
    arguments = {**SHORT, "prioritized_replay": True, "unroll": 1, "n_steps": 1, "burn_in": 0}
    arguments["unroll"] = 2
    model = LWMDQN("MlpPolicy", env, seed=0, **arguments)
    observations, actions, rewards = play(VECTOR, 4)
    model.add_episode(observations, actions, rewards)
    buffer = model.replay_buffer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer) and buffer.states is not None
    np.testing.assert_array_equal(stored(buffer, "observations")[:5, 0], observations)
    seen = env.normalize_obs(observations)
    assert isinstance(seen, np.ndarray) and abs(seen).min() > 9.0
    np.testing.assert_array_equal(buffer.states.hidden[1, 0], model.policy.states_along(seen, actions)[2].hidden[0])


@pytest.mark.parametrize(
    ("observations", "actions", "rewards"),
    [
        (np.zeros((3, 3)), np.zeros(3), np.zeros(3)),
        (np.zeros((4, 3)), np.zeros(3), np.zeros(2)),
        (np.zeros((1, 3)), np.zeros(0), np.zeros(0)),
    ],
)
def test_lengths_that_do_not_fit(observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"{len(actions)} actions and {len(rewards)} rewards must come with one"):
        make_model().add_episode(observations, actions, rewards)


def test_values_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="reward of environment 1 is not finite"):
        make_model().add_episode(np.zeros((3, 3)), np.zeros(2), np.array([0.0, np.nan]))
