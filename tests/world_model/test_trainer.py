"""The teacher of the world model against a plain loop: what it learns from, what it ignores, and where it pays."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import NETWORKS, changed, make_random_envs, weights
from stable_baselines3.common.logger import Logger

from sb3_lwm import LWMDQN, LatentWorldModelCallback
from sb3_lwm.common.type_aliases import RecurrentState, SequenceSamples
from sb3_lwm.world_model import LatentWorldModel

BITS = spaces.MultiBinary(4)
N_ACTIONS = 3


def make_teacher(space: spaces.Space = BITS, policy: str = "MlpPolicy", **kwargs: Any) -> LatentWorldModelCallback:
    """:return: a teacher whose pupil is untrained"""
    arguments = {"seed": 0, "policy_kwargs": NETWORKS, "device": "cpu", **kwargs}
    model = LWMDQN(policy, make_random_envs(space), **arguments)
    model.set_logger(Logger(folder=None, output_formats=[]))
    model._init_callback(None)
    assert model._world_model_callback is not None
    return model._world_model_callback


def make_samples(
    length: int = 9, batch: int = 5, seed: int = 0, end_chance: float = 0.3, with_memory: bool = False
) -> SequenceSamples:
    """:return: random rows with flags as the replay gives them; with_memory: as the prioritised one does"""
    generator = th.Generator().manual_seed(seed)
    finals = th.rand(length, batch, generator=generator) < end_chance
    starts = th.cat((th.ones(1, batch, dtype=th.bool), finals[:-1]))
    initial_states = None
    if with_memory:
        # half of the sequences begin in the middle of an episode
        starts[0, ::2] = False
        memories = th.randn(batch, 12, generator=generator), th.rand(batch, 4, generator=generator)
        initial_states = RecurrentState(th.zeros(batch, 16), *memories, th.zeros(batch, dtype=th.int64))
    return SequenceSamples(
        observations=th.randint(2, (length, batch, 4), generator=generator, dtype=th.int8),
        actions=th.randint(N_ACTIONS, (length, batch), generator=generator).masked_fill(finals, 0),
        rewards=th.randn(length, batch, generator=generator).masked_fill(finals, 0.0),
        episode_starts=starts,
        finals=finals,
        terminations=finals & (th.rand(length, batch, generator=generator) < 0.5),
        initial_states=initial_states,
        importance_weights=th.rand(batch, generator=generator) + 0.1,
        sequence_ids=np.arange(batch),
        intrinsic_rewards=th.zeros(length, batch),
    )


def errors_by_hand(
    model: LatentWorldModel, samples: SequenceSamples, entropies: bool = False
) -> dict[tuple[int, int], th.Tensor]:
    """
    :return: squared error of each row's observation, or its cross-entropy, by row and column, where something was expected;
        one step at a time
    """
    predictor, errors = model.predictor, {}
    assert isinstance(samples.observations, th.Tensor)
    for column in range(samples.rewards.shape[1]):
        hidden, expected = th.zeros(predictor.memory.hidden_size), th.zeros(4)
        if samples.initial_states is not None:
            hidden, expected = samples.initial_states.model_hidden[column], samples.initial_states.predicted_latents[column]
        for row, observation in enumerate(samples.observations[:, column].float()):
            if samples.episode_starts[row, column]:
                hidden = th.zeros_like(hidden)
            else:
                right = th.where(observation > 0.0, expected, 1.0 - expected)
                errors[row, column] = -right.log().sum() / 4 if entropies else (1.0 - right).square().sum() / 4
            inputs = th.cat((observation, th.eye(N_ACTIONS)[samples.actions[row, column]]))
            hidden = predictor.memory.cell(predictor.embedding(inputs), hidden)
            expected = predictor.head(hidden).sigmoid()
    return errors


def loss_and_gradients(teacher: LatentWorldModelCallback, samples: SequenceSamples) -> tuple[float, list[th.Tensor]]:
    """:return: those of an update, which leaves the weights as they are"""
    teacher.policy.world_model_learning_rate = 0.0
    teacher.update(samples)
    gradients = [parameter.grad.clone() for parameter in teacher.world_model.predictor.parameters()]
    return teacher.logger.name_to_value["world_model/loss"], gradients


def pay_the_errors(teacher: LatentWorldModelCallback) -> None:
    """Let the intrinsic reward be the prediction error itself: mean 0, deviation 1."""
    statistics = {"mean": th.zeros(()), "std": th.ones(()), "initialized": th.tensor(True)}
    teacher.world_model.normalizer.load_state_dict(statistics)


# --- Learning ---


@pytest.mark.parametrize("with_memory", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_gradients_against_a_plain_loop(with_memory: bool, seed: int) -> None:
    teacher, samples = make_teacher(), make_samples(seed=seed, with_memory=with_memory)
    # the first row is what the actor expected, with weights that are gone: nothing to learn from it
    by_place = errors_by_hand(teacher.world_model, samples, entropies=True)
    errors = {place: error for place, error in by_place.items() if place[0] > 0}
    assert 10 < len(errors) < 8 * 5
    expected = sum(error * samples.importance_weights[column] for (_, column), error in errors.items()) / len(errors)
    expected_gradients = th.autograd.grad(expected, list(teacher.world_model.predictor.parameters()))
    loss, gradients = loss_and_gradients(teacher, samples)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        th.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def with_other_observation(samples: SequenceSamples, row: int, column: int) -> SequenceSamples:
    observations = samples.observations.clone()
    observations[row, column] = 1 - observations[row, column]
    return samples._replace(observations=observations)


def test_what_a_reset_shows_is_not_learned() -> None:
    teacher, samples = make_teacher(), make_samples(end_chance=0.0)
    # the last row of column 2, after which nothing depends on it
    samples.finals[-2, 2] = samples.episode_starts[-1, 2] = True
    loss, gradients = loss_and_gradients(teacher, samples)
    other_loss, other_gradients = loss_and_gradients(teacher, with_other_observation(samples, -1, 2))
    assert other_loss == loss
    assert all(th.equal(*pair) for pair in zip(gradients, other_gradients, strict=True))
    # the final observation before it is learned, and so is the last row of another column
    for row, column in ((-2, 2), (-1, 1)):
        other_loss, other_gradients = loss_and_gradients(teacher, with_other_observation(samples, row, column))
        assert other_loss != loss
        assert not any(th.equal(*pair) for pair in zip(gradients, other_gradients, strict=True))


def test_a_sequence_of_no_importance_is_not_learned() -> None:
    teacher, samples = make_teacher(), make_samples()
    samples.importance_weights[3] = 0.0
    gradients = loss_and_gradients(teacher, samples)[1]
    for row in range(9):
        other_gradients = loss_and_gradients(teacher, with_other_observation(samples, row, 3))[1]
        assert all(th.equal(*pair) for pair in zip(gradients, other_gradients, strict=True))


def make_sequences(kind: str, rng: np.random.Generator, length: int = 12, batch: int = 16) -> SequenceSamples:
    """
    :return: episodes of 6 rows. ``action``: the action moves a one around four places; ``memory``: rows 3 to 5 are rows 0
        to 2 again; ``random``: coins
    """
    samples = make_samples(length, batch, end_chance=0.0)
    samples.finals[5::6] = True
    samples.episode_starts[::6] = True
    samples.importance_weights.fill_(1.0)
    actions = rng.integers(N_ACTIONS, size=(length, batch)) * ~samples.finals.numpy()
    observations, places = rng.integers(2, size=(length, batch, 4)), np.zeros(batch, dtype=np.int64)
    for row in range(length):
        if kind == "memory" and row % 6 >= 3:
            observations[row] = observations[row - 3]
        if kind == "action":
            places = rng.integers(4, size=batch) if row % 6 == 0 else (places + actions[row - 1]) % 4
            observations[row] = np.eye(4)[places]
    return samples._replace(observations=th.as_tensor(observations, dtype=th.int8), actions=th.as_tensor(actions))


def test_error_falls_where_there_is_something_to_learn() -> None:
    rng = np.random.default_rng(0)
    policy_kwargs = {"world_model_kwargs": {"predictor_kwargs": {"gru_hidden_size": 48, "head_size": 48}}}
    errors = {}
    for kind in ("action", "memory", "random"):
        teacher = make_teacher(world_model_learning_rate=2e-2, policy_kwargs=policy_kwargs)
        for _ in range(150):
            teacher.update(make_sequences(kind, rng))
        assert int(teacher.world_model.n_updates) == 150
        pay_the_errors(teacher)
        # of episodes never seen
        paid = teacher.relabel(make_sequences(kind, rng, batch=64))
        errors[kind] = paid.intrinsic_rewards.mean(dim=1)
        assert (errors[kind][::6] == 0.0).all(), "a reset is no surprise"
    assert errors["action"].max() < 0.02
    # the repeated half needs memory of the first, which is random; a coin has the variance 1/4
    repeated = [3, 4, 5, 9, 10, 11]
    assert errors["memory"][repeated].max() < 0.05
    for fresh in (errors["memory"][[1, 2, 7, 8]], errors["random"][[row for row in range(12) if row % 6]]):
        assert 0.2 < fresh.min() and fresh.max() < 0.35


def test_update_changes_the_predictor_alone() -> None:
    image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    teacher = make_teacher(image, "CnnPolicy", policy_kwargs={**NETWORKS, "features_extractor_kwargs": {"features_dim": 8}})
    samples = make_samples()._replace(observations=th.randint(256, (9, 5, 1, 36, 36), dtype=th.uint8))
    before, policy = weights(teacher.world_model), weights(teacher.policy)
    teacher.update(samples)
    names = changed(before, weights(teacher.world_model))
    assert {name.split(".")[0] for name in names} == {"predictor", "normalizer", "n_updates"}
    assert {name for name in before if name.startswith("predictor.")} <= names
    assert {name.split(".")[0] for name in changed(policy, weights(teacher.policy))} == {"world_model"}
    assert all(parameter.grad is None for parameter in teacher.world_model.encoder.parameters())


def test_update_learns_the_scale_of_all_observations() -> None:
    teacher = make_teacher(spaces.Box(-np.inf, np.inf, (4,)))
    observations = th.randn(9, 5, 4) * 3.0 + 1.0
    teacher.update(make_samples()._replace(observations=observations))
    standardizer = teacher.world_model.encoder.encoders["observation"].standardizer
    th.testing.assert_close(standardizer.mean, observations.mean(dim=(0, 1)))
    # relabelling does not
    before = weights(teacher.world_model)
    teacher.relabel(make_samples()._replace(observations=observations + 5.0))
    assert changed(before, weights(teacher.world_model)) == set()


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    teacher = make_teacher()
    before = weights(teacher.world_model)
    with pytest.raises(ValueError, match=r"The world model's loss is nan: lower world_model_learning_rate \(now 0\.0005\)"):
        teacher.update(make_samples()._replace(importance_weights=th.full((5,), th.nan)))
    assert changed(before, weights(teacher.world_model)) == set()


@pytest.mark.parametrize("n_predicted", [0, 1])
def test_a_batch_with_next_to_nothing_to_learn(n_predicted: int) -> None:
    # two rows, as in the smallest pretraining on episodes of one step: there may be one prediction, or none
    teacher, samples = make_teacher(), make_samples(length=2, batch=1, end_chance=1.0 - n_predicted)
    assert (~samples.episode_starts[1:]).sum() == n_predicted
    teacher.update(make_samples())
    paid = teacher.update(samples)
    assert all(tensor.isfinite().all() for tensor in teacher.world_model.state_dict().values())
    assert paid.rewards.isfinite().all()


# --- Paying ---


@pytest.mark.parametrize("with_memory", [False, True])
def test_the_reward_is_paid_for_what_the_action_led_to(with_memory: bool) -> None:
    teacher, samples = make_teacher(), make_samples(with_memory=with_memory)
    pay_the_errors(teacher)
    kept = samples.rewards.clone()
    paid = teacher.relabel(samples)
    errors = errors_by_hand(teacher.world_model, samples)
    assert any(row == 0 for row, _ in errors) == with_memory
    for row in range(9):
        for column in range(5):
            error = errors[row, column].item() if (row, column) in errors else 0.0
            assert paid.intrinsic_rewards[row, column].item() == pytest.approx(error, rel=1e-5)
            # the next row's error; none across the end of an episode, none for what is not in the window
            bonus = errors[row + 1, column].item() if (row + 1, column) in errors else 0.0
            assert paid.rewards[row, column].item() == pytest.approx(kept[row, column].item() + bonus, rel=1e-5, abs=1e-6)
    assert (paid.rewards[samples.finals] == 0.0).all() and samples.finals.any()
    assert not paid.rewards.requires_grad
    # the rest is as it was, and nothing was written over
    assert th.equal(samples.rewards, kept) and (samples.intrinsic_rewards == 0.0).all()
    assert paid._replace(rewards=samples.rewards, intrinsic_rewards=samples.intrinsic_rewards) == samples


def test_an_untaught_model_pays_nothing() -> None:
    teacher, samples = make_teacher(), make_samples()
    paid = teacher.relabel(samples)
    assert th.equal(paid.rewards, samples.rewards) and (paid.intrinsic_rewards == 0.0).all()


def test_update_pays_the_errors_of_its_batch_by_their_own_scale() -> None:
    teacher, samples = make_teacher(intrinsic_reward_scale=0.5), make_samples(with_memory=True)
    errors = {place: error.item() for place, error in errors_by_hand(teacher.world_model, samples).items()}
    # the first batch sets the scale, from what was predicted in it and nothing else
    learned = np.array([error for (row, _), error in errors.items() if row > 0])
    paid = teacher.update(samples)
    for place in np.ndindex(9, 5):
        expected = 0.5 * (errors[place] - learned.mean()) / learned.std(ddof=1) if place in errors else 0.0
        assert paid.intrinsic_rewards[place].item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    th.testing.assert_close(paid.rewards[:-1] - samples.rewards[:-1], paid.intrinsic_rewards[1:])
    assert not paid.rewards.requires_grad


def test_logged_values() -> None:
    teacher, samples = make_teacher(), make_samples()
    paid = teacher.update(samples)
    logged = {name: value for name, value in teacher.logger.name_to_value.items() if name.startswith("world_model/")}
    assert logged.pop("world_model/loss") > 0.0
    assert logged == pytest.approx(
        {
            "world_model/n_updates": 1,
            "world_model/error_mean": teacher.world_model.normalizer.mean.item(),
            "world_model/error_std": teacher.world_model.normalizer.std.item(),
            "world_model/intrinsic_reward_mean": paid.intrinsic_rewards[1:].mean().item(),
            "world_model/intrinsic_reward_std": paid.intrinsic_rewards[1:].std(correction=0).item(),
            "world_model/intrinsic_reward_max": paid.intrinsic_rewards[1:].max().item(),
        }
    )
