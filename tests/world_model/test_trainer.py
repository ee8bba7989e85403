"""The trainer of the world model, without an agent: losses and intrinsic rewards against a plain loop, and the pretraining."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import changed, weights
from world_model_helpers import IMAGE, N_ACTIONS, make_world_model

from sb3_lwm.common.finite_guard import FiniteGuard, NonFiniteError
from sb3_lwm.common.type_aliases import RecurrentState, SequenceSamples
from sb3_lwm.world_model import LatentWorldModel, WorldModelTrainer

BITS = spaces.MultiBinary(4)
LEARNING_RATE = 5e-4


def make_trainer(space: spaces.Space = BITS, learning_rate: float = LEARNING_RATE, **kwargs: Any) -> WorldModelTrainer:
    """Make the trainer of an untrained world model, whose predictor has a hidden state of size 12 by default."""
    sizes = {"input_size": 8, "gru_hidden_size": 12, "head_size": 8}
    world_model = make_world_model(space, **{"predictor_kwargs": sizes, **kwargs})
    encoder_optimizer = None
    if world_model.encoder_objectives():
        parameters = [*world_model.encoder.parameters(), *world_model.objectives.parameters()]
        encoder_optimizer = th.optim.Adam(parameters, lr=learning_rate)
    optimizer = th.optim.Adam(world_model.predictor.parameters(), lr=learning_rate)
    return WorldModelTrainer(world_model, optimizer, encoder_optimizer, learning_rate, FiniteGuard(lambda: "(step 7)"))


def make_samples(
    length: int = 9, batch: int = 5, seed: int = 0, end_chance: float = 0.3, with_memory: bool = False
) -> SequenceSamples:
    """Make random rows with the flags of a replay; ``with_memory`` adds the hidden states of the prioritised one."""
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
    """Return the squared error or cross-entropy of each row with a prediction, by row and column, one step at a time."""
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


def loss_and_gradients(trainer: WorldModelTrainer, samples: SequenceSamples) -> tuple[float, list[th.Tensor]]:
    """Return the loss and the gradients of an update that does not change the weights."""
    trainer.learning_rate = 0.0
    trainer.update(samples)
    gradients = [parameter.grad.clone() for parameter in trainer.world_model.predictor.parameters()]
    return trainer.take_scalars()["loss"].item(), gradients


def reward_raw_errors(trainer: WorldModelTrainer) -> None:
    """Let the intrinsic reward be the prediction error itself: mean 0, deviation 1."""
    statistics = {"mean": th.zeros(()), "std": th.ones(()), "initialized": th.tensor(True)}
    trainer.world_model.normalizer.load_state_dict(statistics)


# --- Updates of the predictor ---


@pytest.mark.parametrize("with_memory", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_and_gradients_against_a_plain_loop(with_memory: bool, seed: int) -> None:
    trainer, samples = make_trainer(), make_samples(seed=seed, with_memory=with_memory)
    # the first row is what the actor expected, with weights that are gone: nothing to learn from it
    by_place = errors_by_hand(trainer.world_model, samples, entropies=True)
    errors = {place: error for place, error in by_place.items() if place[0] > 0}
    assert 10 < len(errors) < 8 * 5
    expected = sum(error * samples.importance_weights[column] for (_, column), error in errors.items()) / len(errors)
    expected_gradients = th.autograd.grad(expected, list(trainer.world_model.predictor.parameters()))
    loss, gradients = loss_and_gradients(trainer, samples)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        th.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def with_other_observation(samples: SequenceSamples, row: int, column: int) -> SequenceSamples:
    observations = samples.observations.clone()
    observations[row, column] = 1 - observations[row, column]
    return samples._replace(observations=observations)


def test_first_observation_of_an_episode_has_no_loss() -> None:
    trainer, samples = make_trainer(), make_samples(end_chance=0.0)
    # the last row of column 2, after which nothing depends on it
    samples.finals[-2, 2] = samples.episode_starts[-1, 2] = True
    loss, gradients = loss_and_gradients(trainer, samples)
    other_loss, other_gradients = loss_and_gradients(trainer, with_other_observation(samples, -1, 2))
    assert other_loss == loss
    assert all(th.equal(*pair) for pair in zip(gradients, other_gradients, strict=True))
    # the final observation before it is learned, and so is the last row of another column
    for row, column in ((-2, 2), (-1, 1)):
        other_loss, other_gradients = loss_and_gradients(trainer, with_other_observation(samples, row, column))
        assert other_loss != loss
        assert not any(th.equal(*pair) for pair in zip(gradients, other_gradients, strict=True))


def test_sequence_with_importance_weight_zero_has_no_gradient() -> None:
    trainer, samples = make_trainer(), make_samples()
    samples.importance_weights[3] = 0.0
    gradients = loss_and_gradients(trainer, samples)[1]
    for row in range(9):
        other_gradients = loss_and_gradients(trainer, with_other_observation(samples, row, 3))[1]
        assert all(th.equal(*pair) for pair in zip(gradients, other_gradients, strict=True))


def make_sequences(kind: str, rng: np.random.Generator, length: int = 12, batch: int = 16) -> SequenceSamples:
    """
    Make episodes of 6 rows. With ``action`` the action moves a one around four places, with ``memory`` rows 3 to 5 repeat
    rows 0 to 2, with ``random`` all values are random.
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


def test_error_falls_only_for_what_is_predictable() -> None:
    rng = np.random.default_rng(0)
    sizes = {"gru_hidden_size": 48, "head_size": 48}
    errors = {}
    for kind in ("action", "memory", "random"):
        trainer = make_trainer(learning_rate=2e-2, predictor_kwargs=sizes)
        for _ in range(150):
            trainer.update(make_sequences(kind, rng))
        assert int(trainer.world_model.n_updates) == 150
        reward_raw_errors(trainer)
        # of new episodes
        relabelled = trainer.relabel(make_sequences(kind, rng, batch=64))
        errors[kind] = relabelled.intrinsic_rewards.mean(dim=1)
        assert (errors[kind][::6] == 0.0).all(), "the reward of a reset is 0"
    assert errors["action"].max() < 0.02
    # the repeated half needs memory of the first, which is random; a coin has the variance 1/4
    repeated = [3, 4, 5, 9, 10, 11]
    assert errors["memory"][repeated].max() < 0.05
    for fresh in (errors["memory"][[1, 2, 7, 8]], errors["random"][[row for row in range(12) if row % 6]]):
        assert 0.2 < fresh.min() and fresh.max() < 0.35


def test_update_changes_the_predictor_only() -> None:
    trainer = make_trainer(IMAGE)
    samples = make_samples()._replace(observations=th.randint(256, (9, 5, 1, 36, 36), dtype=th.uint8))
    before = weights(trainer.world_model)
    trainer.update(samples)
    names = changed(before, weights(trainer.world_model))
    assert {name.split(".")[0] for name in names} == {"predictor", "normalizer", "n_updates"}
    assert {name for name in before if name.startswith("predictor.")} <= names
    assert all(parameter.grad is None for parameter in trainer.world_model.encoder.parameters())


def test_update_standardizes_observations_and_relabelling_does_not() -> None:
    trainer = make_trainer(spaces.Box(-np.inf, np.inf, (4,)))
    observations = th.randn(9, 5, 4) * 3.0 + 1.0
    trainer.update(make_samples()._replace(observations=observations))
    standardizer = trainer.world_model.encoder.encoders["observation"].standardizer
    th.testing.assert_close(standardizer.mean, observations.mean(dim=(0, 1)))
    # relabelling does not
    before = weights(trainer.world_model)
    trainer.relabel(make_samples()._replace(observations=observations + 5.0))
    assert changed(before, weights(trainer.world_model)) == set()


def test_loss_of_the_predictor_that_is_not_finite() -> None:
    trainer = make_trainer()
    before = weights(trainer.world_model)
    message = r"The world model's loss is nan: lower world_model_learning_rate \(now 0\.0005\).* \(step 7\)"
    with pytest.raises(NonFiniteError, match=message):
        trainer.update(make_samples()._replace(importance_weights=th.full((5,), th.nan)))
    assert changed(before, weights(trainer.world_model)) == set()


@pytest.mark.parametrize("n_predicted", [0, 1])
def test_batch_with_one_or_no_prediction(n_predicted: int) -> None:
    # two rows, as in the smallest pretraining on episodes of one step: there may be one prediction, or none
    trainer, samples = make_trainer(), make_samples(length=2, batch=1, end_chance=1.0 - n_predicted)
    assert (~samples.episode_starts[1:]).sum() == n_predicted
    trainer.update(make_samples())
    relabelled = trainer.update(samples)
    assert all(tensor.isfinite().all() for tensor in trainer.world_model.state_dict().values())
    assert relabelled.rewards.isfinite().all()


# --- Intrinsic rewards ---


@pytest.mark.parametrize("with_memory", [False, True])
def test_intrinsic_reward_is_that_of_the_next_observation(with_memory: bool) -> None:
    trainer, samples = make_trainer(), make_samples(with_memory=with_memory)
    reward_raw_errors(trainer)
    kept = samples.rewards.clone()
    relabelled = trainer.relabel(samples)
    errors = errors_by_hand(trainer.world_model, samples)
    assert any(row == 0 for row, _ in errors) == with_memory
    for row in range(9):
        for column in range(5):
            error = errors[row, column].item() if (row, column) in errors else 0.0
            assert relabelled.intrinsic_rewards[row, column].item() == pytest.approx(error, rel=1e-5)
            # the next row's error; none across the end of an episode, none for what is not in the window
            bonus = errors[row + 1, column].item() if (row + 1, column) in errors else 0.0
            assert relabelled.rewards[row, column].item() == pytest.approx(
                kept[row, column].item() + bonus, rel=1e-5, abs=1e-6
            )
    assert (relabelled.rewards[samples.finals] == 0.0).all() and samples.finals.any()
    assert not relabelled.rewards.requires_grad
    # the rest is as it was, and nothing was written over
    assert th.equal(samples.rewards, kept) and (samples.intrinsic_rewards == 0.0).all()
    assert relabelled._replace(rewards=samples.rewards, intrinsic_rewards=samples.intrinsic_rewards) == samples


def test_untrained_model_gives_no_intrinsic_reward() -> None:
    trainer, samples = make_trainer(), make_samples()
    relabelled = trainer.relabel(samples)
    assert th.equal(relabelled.rewards, samples.rewards) and (relabelled.intrinsic_rewards == 0.0).all()


def test_update_normalizes_the_errors_of_its_batch() -> None:
    trainer, samples = make_trainer(intrinsic_reward_scale=0.5), make_samples(with_memory=True)
    errors = {place: error.item() for place, error in errors_by_hand(trainer.world_model, samples).items()}
    # the first batch sets the scale, from what was predicted in it and nothing else
    learned = np.array([error for (row, _), error in errors.items() if row > 0])
    relabelled = trainer.update(samples)
    for place in np.ndindex(9, 5):
        expected = 0.5 * (errors[place] - learned.mean()) / learned.std(ddof=1) if place in errors else 0.0
        assert relabelled.intrinsic_rewards[place].item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    th.testing.assert_close(relabelled.rewards[:-1] - samples.rewards[:-1], relabelled.intrinsic_rewards[1:])
    assert not relabelled.rewards.requires_grad


def test_scalars_of_an_update() -> None:
    trainer, samples = make_trainer(), make_samples()
    relabelled = trainer.update(samples)
    scalars = {name: value.item() for name, value in trainer.take_scalars().items()}
    assert scalars.pop("loss") > 0.0
    rewards = relabelled.intrinsic_rewards[1:]
    assert scalars == pytest.approx(
        {
            "n_updates": 1,
            "error_mean": trainer.world_model.normalizer.mean.item(),
            "error_std": trainer.world_model.normalizer.std.item(),
            "intrinsic_reward_mean": rewards.mean().item(),
            "intrinsic_reward_std": rewards.std(correction=0).item(),
            "intrinsic_reward_max": rewards.max().item(),
        }
    )
    assert trainer.take_scalars() == {}
    trainer.relabel(samples)
    assert trainer.take_scalars() == {}


def test_learning_rate_is_the_trainers() -> None:
    # a loaded optimizer brings another one along
    trainer = make_trainer(IMAGE, encoder_objective_kwargs={"batch_size": 8})
    assert trainer.encoder_optimizer is not None
    optimizers = (trainer.optimizer, trainer.encoder_optimizer)
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = 1.0
    trainer.learning_rate = 0.125
    windows = RandomImages()
    trainer.update(windows(5, 9))
    trainer.update_encoder(windows)
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.125, 0.125]


# --- Updates of the encoder, and the pretraining ---


class RandomImages:
    """Draws windows of random images, and lists their sizes."""

    def __init__(self) -> None:
        self.drawn: list[tuple[int, int, bool]] = []

    def __call__(self, batch_size: int, sequence_length: int, within_episode: bool = False) -> SequenceSamples:
        self.drawn.append((batch_size, sequence_length, within_episode))
        shape = (sequence_length, batch_size, *IMAGE.shape)
        samples = make_samples(sequence_length, batch_size, end_chance=0.0 if within_episode else 0.3)
        return samples._replace(observations=th.randint(256, shape, dtype=th.uint8))


def random_bits(batch_size: int, sequence_length: int, within_episode: bool = False) -> SequenceSamples:
    return make_samples(sequence_length, batch_size, seed=sequence_length)


def test_encoder_window() -> None:
    assert make_trainer(BITS).encoder_window == 0
    assert make_trainer(IMAGE, encoder_objective="random").encoder_window == 0
    assert make_trainer(IMAGE, encoder_objective="cpc", encoder_objective_kwargs={"sequence_length": 11}).encoder_window == 11


@pytest.mark.parametrize("objective", ["w-mse", "inverse-dynamics", "cpc"])
def test_encoder_update_changes_encoder_and_objective_only(objective: str) -> None:
    sizes = {"batch_size": 8, "sequence_length": 4}
    trainer = make_trainer(IMAGE, encoder_objective=objective, encoder_objective_kwargs=sizes)
    before, windows = weights(trainer.world_model), RandomImages()
    trainer.update_encoder(windows)
    assert windows.drawn == [(8, 4, True)]
    names = changed(before, weights(trainer.world_model))
    layers = {name for name in before if name.startswith(("encoder.", "objectives.")) and name.endswith("weight")}
    assert layers <= names
    assert {name.split(".")[0] for name in names} <= {"encoder", "objectives", "n_encoder_updates"}
    scalars = trainer.take_scalars()
    assert scalars["encoder_loss"].item() > 0.0 and all(name.startswith("encoder_") for name in scalars)
    assert len(scalars) == 2


def test_each_image_of_a_dictionary_has_its_own_encoder_and_objective() -> None:
    trainer = make_trainer(spaces.Dict({"left": IMAGE, "right": IMAGE}), encoder_objective_kwargs={"batch_size": 8})
    images = RandomImages()

    def windows(*args: Any, **kwargs: Any) -> SequenceSamples:
        left, right = images(*args, **kwargs), images(*args, **kwargs)
        return left._replace(observations={"left": left.observations, "right": right.observations})  # type: ignore[dict-item]

    before = weights(trainer.world_model.encoder)
    trainer.update_encoder(windows)
    names = changed(before, weights(trainer.world_model.encoder))
    assert {name.split(".")[1] for name in names} == {"left", "right"}
    # two images of each of two draws
    assert images.drawn == [(8, 3, True)] * 4


def test_loss_of_the_encoder_that_is_not_finite() -> None:
    trainer = make_trainer(IMAGE, encoder_objective_kwargs={"batch_size": 8})
    with th.no_grad():
        next(trainer.world_model.encoder.parameters()).fill_(th.nan)
    before = weights(trainer.world_model.objectives)
    with pytest.raises(NonFiniteError, match=r"The encoder's loss is nan: lower world_model_learning_rate .* \(step 7\)"):
        trainer.update_encoder(RandomImages())
    assert changed(before, weights(trainer.world_model.objectives)) == set()
    assert int(trainer.world_model.n_encoder_updates) == 0


def pretrain(trainer: WorldModelTrainer, windows: Any, before_update: Callable[[], None], verbose: int = 0) -> None:
    """Pretrain up to 3 updates of the predictor and 2 of the encoder."""
    trainer.pretrain(windows, 3, 2, batch_size=5, sequence_length=9, before_update=before_update, verbose=verbose)


def test_pretraining_updates_the_encoder_first_and_continues_where_it_stopped() -> None:
    trainer = make_trainer(IMAGE, encoder_objective_kwargs={"batch_size": 8})
    model, windows = trainer.world_model, RandomImages()
    counts: list[tuple[int, int]] = []

    def interrupt() -> None:
        counts.append((int(model.n_encoder_updates), int(model.n_updates)))
        if len(counts) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(trainer, windows, interrupt)
    assert counts == [(0, 0), (1, 0), (2, 0), (2, 1)]
    pretrain(trainer, windows, interrupt)
    assert counts[4:] == [(2, 1), (2, 2)]
    # the last one of the predictor's windows sets the averages
    assert windows.drawn == [(8, 3, True)] * 2 + [(5, 9, False)] * 4
    assert (int(model.n_encoder_updates), int(model.n_updates)) == (2, 3)
    before = weights(model)
    pretrain(trainer, windows, interrupt)
    assert len(windows.drawn) == 6 and len(counts) == 6 and changed(before, weights(model)) == set()


@pytest.mark.parametrize("objective", [None, "random"])
def test_pretraining_without_an_encoder_to_train(objective: str | None) -> None:
    trainer = make_trainer() if objective is None else make_trainer(IMAGE, encoder_objective=objective)
    pretrain(trainer, random_bits if objective is None else RandomImages(), lambda: None)
    assert (int(trainer.world_model.n_encoder_updates), int(trainer.world_model.n_updates)) == (0, 3)


def test_averages_restart_from_the_error_of_the_pretrained_model() -> None:
    trainer = make_trainer(learning_rate=1e-2)
    pretrain(trainer, random_bits, lambda: None)
    by_place = errors_by_hand(trainer.world_model, random_bits(5, 9))
    errors = th.stack([error for (row, _), error in by_place.items() if row > 0])
    th.testing.assert_close(trainer.world_model.normalizer.mean, errors.mean())
    th.testing.assert_close(trainer.world_model.normalizer.std, errors.std())


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_of_the_pretraining(verbose: int, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain(make_trainer(), random_bits, lambda: None, verbose=verbose)
    captured = capsys.readouterr()
    line = "Pretraining the world model: loss"
    assert (line in captured.out) == ("in the last 1 of 3" in captured.out) == (verbose == 1)
    # standard error is not a terminal here: the progress bar is there when it is asked for
    assert ("Pretraining the world model" in captured.err) == (verbose == 1)
