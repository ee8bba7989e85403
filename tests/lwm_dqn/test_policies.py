"""Acting: hidden states between two calls, random actions, evaluation, and the arguments of predict."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from atari_helpers import SHORT_ATARI
from helpers import NETWORKS, SHORT, VECTOR, RandomEnv, make_labyrinths, make_random_envs
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_lwm import LWMDQN, AtariVecEnv, PrioritizedSequenceReplayBuffer
from sb3_lwm.common.exploration import epsilon_ladder
from sb3_lwm.common.type_aliases import RecurrentState


def make_model(n_envs: int = 3, **kwargs: Any) -> LWMDQN:
    """Make an agent whose intrinsic rewards are not 0, so that all parts of its hidden states have an effect."""
    model = LWMDQN("MlpPolicy", make_random_envs(n_envs=n_envs), seed=0, **{**SHORT, "policy_kwargs": NETWORKS, **kwargs})
    if model.policy.world_model is not None:
        model.policy.world_model.normalizer.update(th.rand(10))
    return model


def make_atari_model(**kwargs: Any) -> LWMDQN:
    env = AtariVecEnv("montezuma_revenge", 2, seed=0, max_episode_steps=30)
    return LWMDQN("CnnPolicy", env, seed=0, **{**SHORT_ATARI, **kwargs})


def observations(steps: int, n_envs: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1.0, 1.0, (steps, n_envs, 3)).astype(np.float32)


def play(model: LWMDQN, sequence: np.ndarray) -> tuple[list[np.ndarray], RecurrentState]:
    """Return the actions at every step of one episode, and the hidden states after it."""
    actions, state = [], None
    for step in sequence:
        action, state = model.predict(step, state, deterministic=True)
        actions.append(action)
    assert state is not None
    return actions, state


def rows(state: RecurrentState, index: Any) -> list[np.ndarray]:
    return [part[index] for part in state]


def assert_same(first: Any, second: Any) -> None:
    for part, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(part, other)


# --- Memory ---


def test_predict_without_state_begins_an_episode() -> None:
    model, (observation,) = make_model(), observations(1)
    actions, state = model.predict(observation, deterministic=True)
    old_memory = RecurrentState(*(np.ones_like(part) for part in state))
    for given, starts in ((None, [False] * 3), (None, [True] * 3), (old_memory, [True] * 3)):
        again, next_state = model.predict(observation, given, np.array(starts), deterministic=True)
        np.testing.assert_array_equal(again, actions)
        assert_same(next_state, state)
    # the memory does matter where no episode begins
    assert not np.array_equal(model.predict(observation, old_memory)[1].hidden, state.hidden)
    assert all(part.dtype == np.float32 for part in state[:3]) and state.last_actions.dtype == np.int64


def test_episode_start_resets_only_the_flagged_environment() -> None:
    model, sequence = make_model(), observations(6)
    _, state = play(model, sequence[:-1])
    kept, kept_state = model.predict(sequence[-1], state, deterministic=True)
    unflagged, unflagged_state = model.predict(sequence[-1], state, np.zeros(3, dtype=bool), deterministic=True)
    flagged, flagged_state = model.predict(sequence[-1], state, np.array([False, True, False]), deterministic=True)
    first, first_state = model.predict(sequence[-1], deterministic=True)

    # None means that no episode begins
    np.testing.assert_array_equal(kept, unflagged)
    assert_same(kept_state, unflagged_state)
    assert_same(rows(flagged_state, [0, 2]), rows(kept_state, [0, 2]))
    assert_same(rows(flagged_state, 1), rows(first_state, 1))
    assert flagged[1] == first[1]
    for part, kept_part in zip(rows(flagged_state, 1)[:3], rows(kept_state, 1)[:3], strict=True):
        assert not np.array_equal(part, kept_part)


def test_environments_of_a_batch_are_independent() -> None:
    model, sequence = make_model(), observations(8)
    actions, state = play(model, sequence)
    other = sequence.copy()
    other[:, 1] = -other[:, 1]
    other_actions, other_state = play(model, other)
    assert_same(rows(other_state, [0, 2]), rows(state, [0, 2]))
    np.testing.assert_array_equal(np.array(other_actions)[:, [0, 2]], np.array(actions)[:, [0, 2]])
    assert not np.array_equal(other_state.hidden[1], state.hidden[1])
    # alone, as a batch of one and without a batch dimension
    alone, alone_state = play(model, sequence[:, :1])
    single, single_state = play(model, sequence[:, 0])
    np.testing.assert_array_equal(np.array(alone), np.array(actions)[:, :1])
    np.testing.assert_array_equal(single, np.array(actions)[:, 0])
    assert len(set(np.ravel(actions))) > 1, "an agent that does always the same shows nothing"
    for part, one, other_one in zip(rows(state, [0]), alone_state, single_state, strict=True):
        np.testing.assert_allclose(one, part, atol=1e-6)
        np.testing.assert_array_equal(one, other_one)


def test_predict_returns_copies() -> None:
    model, sequence = make_model(), observations(2)
    actions, state = model.predict(sequence[0])
    copies = [part.copy() for part in state]
    model.predict(sequence[1], state)
    assert_same(state, copies)
    # a wrapper may write into the actions that it is given
    actions[:] = 2 - actions
    assert_same(state, copies)


def test_training_stores_the_hidden_states_of_acting() -> None:
    # no update: what the actor remembered can be had again from the rows. An episode has 8 of them, the final one included
    lengths = {"burn_in": 20, "unroll": 20, "learning_starts": 100}
    model = make_model(n_envs=2, prioritized_replay=True, **lengths).learn(96)
    buffer, trainer = model.replay_buffer, model.world_model_trainer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer) and trainer is not None and buffer.states is not None
    first = trainer.relabel(buffer.sequences(np.array([0, 1])))
    assert first.intrinsic_rewards.any() and first.finals[7].all() and not first.episode_starts[20].any()
    actions, starts = first.actions[:20], first.episode_starts[:20]
    last_actions = th.cat((th.zeros(1, 2, dtype=th.int64), actions[:-1]))
    with th.no_grad():
        memories = model.q_net.remember(
            first.observations[:20], last_actions, first.intrinsic_rewards[:20], starts, th.zeros(2, 16)
        )
        assert model.policy.world_model is not None
        latents = model.policy.world_model.encode(first.observations[:20])
        predictions, model_hidden = model.policy.world_model.expect(latents, actions, th.zeros(2, 12), starts)
    # the second sequence of each environment begins at row 20
    expected = RecurrentState(memories[-1], model_hidden, predictions[-1], actions[-1])
    for stored, tensor in zip(rows(buffer.states, 1), expected, strict=True):
        np.testing.assert_allclose(stored, tensor, atol=1e-5)


def test_only_the_q_network_has_hidden_states_without_world_model() -> None:
    model = make_model(use_world_model=False)
    _, state = play(model, observations(4))
    assert [part.shape for part in state] == [(3, 16), (3, 0), (3, 0), (3,)]
    assert np.abs(state.hidden).max() > 0.0


def test_forward_of_the_policy_is_the_first_step() -> None:
    model, (observation,) = make_model(), observations(1)
    actions = model.policy(th.as_tensor(observation), deterministic=True)
    np.testing.assert_array_equal(actions, model.predict(observation, deterministic=True)[0])


# --- Epsilon ---


def test_deterministic_draws_no_random_number() -> None:
    model, (observation,) = make_model(evaluation_eps=1.0), observations(1)
    before = model.rng.bit_generator.state
    actions = [model.predict(observation, deterministic=True)[0] for _ in range(5)]
    assert model.rng.bit_generator.state == before
    assert all(np.array_equal(action, actions[0]) for action in actions)


def test_evaluation_epsilon_is_drawn_for_each_environment() -> None:
    model, (observation,) = make_model(evaluation_eps=0.5), observations(1, n_envs=3000)
    greedy, greedy_state = model.predict(observation, deterministic=True)
    played, played_state = model.predict(observation, deterministic=False)
    # one of three random actions is the greedy one; one coin for all environments would give 0 or 2 / 3
    assert np.mean(played != greedy) == pytest.approx(0.5 * 2 / 3, abs=0.03)
    # a random action does not stop the memory, and is what the memory knows to have been done
    np.testing.assert_array_equal(played_state.hidden, greedy_state.hidden)
    np.testing.assert_array_equal(played_state.last_actions, played)
    assert np.any(played_state.predicted_latents != greedy_state.predicted_latents, axis=1)[played != greedy].all()


@pytest.mark.parametrize("base", [None, 0.4])
def test_epsilons_of_the_training(base: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"exploration_initial_eps": 0.8, "exploration_final_eps": 0.2, "exploration_fraction": 0.5}
    model = make_model(evaluation_eps=0.9, exploration_eps_base=base, **arguments)
    drawn: list[Any] = []
    act = model.policy.act

    def spy(*args: Any) -> Any:
        drawn.append(args[3])
        return act(*args)

    monkeypatch.setattr(model.policy, "act", spy)
    model.learn(240)
    # 20 vector steps of warm-up
    assert drawn[:20] == [1.0] * 20 and len(drawn) == 80
    if base is not None:
        np.testing.assert_allclose(drawn[20:], [epsilon_ladder(3, 0.4, 7.0)] * 60)
        np.testing.assert_allclose(drawn[-1], [0.4, 0.4**4.5, 0.4**8])
    else:
        # linear over the first half of the training, from the last step's progress
        np.testing.assert_allclose(drawn[20:], [max(0.8 - 0.6 * step / 40, 0.2) for step in range(20, 80)])


# --- Evaluation ---


@pytest.mark.parametrize("n_envs", [1, 3])
def test_evaluate_policy_carries_the_memory(n_envs: int) -> None:
    model = make_model()
    env = make_random_envs(n_envs=n_envs)
    env.seed(7)
    played: list[np.ndarray] = []
    rewards, lengths = evaluate_policy(
        model,
        env,
        n_eval_episodes=2 * n_envs,
        deterministic=True,
        return_episode_rewards=True,
        callback=lambda variables, _: played.append(variables["actions"]) if variables["i"] == 0 else None,
    )
    assert lengths == [7] * (2 * n_envs)

    env.seed(7)
    expected, observation, state, starts = [], env.reset(), None, np.ones(n_envs, dtype=bool)
    for _ in range(14):
        actions, state = model.policy.predict(observation, state, starts, deterministic=True)
        expected.append(actions)
        observation, _, starts, _ = env.step(actions)
    np.testing.assert_array_equal(played[:14], expected)
    assert sum(rewards) == np.sum(np.array(expected) == 0) and len(np.unique(expected)) > 1


def test_evaluation_does_not_disturb_the_training() -> None:
    model = LWMDQN("MlpPolicy", make_labyrinths(n_envs=2), seed=0, **SHORT).learn(80)
    before = RecurrentState(*(part.clone() for part in model._last_state or ()))
    evaluate_policy(model, make_labyrinths(n_envs=1, seed=5), n_eval_episodes=2)
    assert model._last_state is not None
    assert_same(model._last_state, before)


# --- Arguments of predict ---


def test_state_of_another_number_of_environments() -> None:
    model, given = make_model(), np.zeros((3, 3), dtype=np.float32)
    _, state = model.predict(given)
    with pytest.raises(ValueError, match=r"3 environments.*2.*state=None"):
        model.predict(given[:2], state)
    with pytest.raises(ValueError, match=r"3 environments.*1.*state=None"):
        model.predict(given[0], state)


def test_episode_start_of_another_number_of_environments() -> None:
    model, given = make_model(), np.zeros((3, 3), dtype=np.float32)
    _, state = model.predict(given)
    with pytest.raises(ValueError, match=r"episode_start.*2.*3"):
        model.predict(given, state, np.zeros(2, dtype=bool))


def test_observation_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"Unexpected observation shape \(4,\)"):
        make_model().predict(np.zeros(4, dtype=np.float32))


def test_result_of_reset_is_refused() -> None:
    # Gymnasium's reset returns an observation and a dictionary
    with pytest.raises(ValueError, match=r"tuple.*predict|predict.*tuple"):
        make_model().predict(RandomEnv(VECTOR).reset())  # type: ignore[arg-type]


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
        make_atari_model().predict(frames)


# --- Precision and compilation ---


def test_mixed_precision_changes_features_slightly() -> None:
    plain, mixed = make_atari_model(), make_atari_model(mixed_precision=True)
    observations = th.randint(0, 256, (2, 1, 84, 84), dtype=th.uint8)
    features = [model.q_net.extract_features(observations, model.q_net.features_extractor) for model in (plain, mixed)]
    assert not th.equal(*features)
    th.testing.assert_close(*features, atol=0.02, rtol=0.05)


@pytest.mark.slow
# of torch.compile itself
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_networks_learn_and_load(tmp_path: Path) -> None:
    model = make_atari_model(compile_networks=True).learn(40)
    model.save(tmp_path / "model")
    loaded = LWMDQN.load(tmp_path / "model")
    assert loaded.compile_networks and model._n_updates > 0
    frame = np.full((1, 84, 84), 100, np.uint8)
    assert loaded.predict(frame, deterministic=True)[0] == model.predict(frame, deterministic=True)[0]
