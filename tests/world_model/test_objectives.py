"""Objectives of the encoder: losses by hand, gradients, and a toy world that is learned."""

import math
from collections.abc import Callable

import pytest
import torch as th
from torch import nn
from world_model_helpers import ACTIONS, LATENT_SIZE, N_ACTIONS, make, make_encoder, random_batch, shifts_of, toy_batch

from sb3_lwm.world_model.objectives import (
    OBJECTIVES,
    CPCObjective,
    EncoderObjective,
    InverseDynamicsObjective,
    WMSEObjective,
    make_objective,
)

TRAINED = [name for name, objective in OBJECTIVES.items() if objective.trains_encoder]


# --- All objectives ---


@pytest.mark.parametrize(("name", "sizes"), [("w-mse", (256, 3)), ("inverse-dynamics", (256, 2)), ("cpc", (32, 32))])
def test_sizes_of_the_paper_and_others(name: str, sizes: tuple[int, int]) -> None:
    assert (make(name).batch_size, make(name).sequence_length) == sizes
    objective = make(name, batch_size=6, sequence_length=5)
    assert (objective.batch_size, objective.sequence_length) == (6, 5)
    loss, logs = objective.loss(make_encoder(), *random_batch(objective))
    assert loss.shape == () and loss.isfinite() and set(logs) <= {"accuracy", "ill_conditioned"}


def test_names_of_the_objectives() -> None:
    assert set(OBJECTIVES) == {"w-mse", "inverse-dynamics", "cpc", "random"} == {*TRAINED, "random"}
    with pytest.raises(ValueError, match=r"'wmse'.* w-mse, inverse-dynamics, cpc, random"):
        make_objective("wmse", LATENT_SIZE, ACTIONS)


@pytest.mark.parametrize(("argument", "value"), [("batch_size", 0), ("sequence_length", 1)])
def test_bad_sizes_are_refused(argument: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least .*, got {value}"):
        make("cpc", **{argument: value})


@pytest.mark.parametrize("name", TRAINED)
def test_windows_of_another_length_are_refused(name: str) -> None:
    objective = make(name, batch_size=4)
    frames, actions = random_batch(objective)
    with pytest.raises(ValueError, match=f"windows of {objective.sequence_length} rows, got {objective.sequence_length - 1}"):
        objective.loss(make_encoder(), frames[1:], actions[1:])


@pytest.mark.parametrize("name", TRAINED)
def test_gradient_reaches_the_encoder_and_every_layer(name: str) -> None:
    objective, encoder = make(name, batch_size=16), make_encoder()
    loss, logs = objective.loss(encoder, *random_batch(objective))
    loss.backward()
    for parameter in (*encoder.parameters(), *objective.parameters()):
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    assert encoder.linear.weight.grad.abs().sum() > 0.0
    assert all(value.shape == () and not value.requires_grad for value in logs.values())


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("constant", [0, 77])
def test_black_and_frozen_screens_have_finite_gradients(name: str, constant: int) -> None:
    objective, encoder = make(name, batch_size=8), make_encoder()
    frames, actions = random_batch(objective)
    loss, logs = objective.loss(encoder, th.full_like(frames, constant), actions)
    loss.backward()
    assert loss.isfinite() and all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
    assert name != "w-mse" or logs["ill_conditioned"] == 1.0


@pytest.mark.parametrize("name", TRAINED)
def test_loss_does_not_wait_for_the_device(name: str) -> None:
    objective, encoder = make(name, batch_size=8).to("meta"), make_encoder().to("meta")
    frames, actions = (part.to("meta") for part in random_batch(objective))
    # a meta tensor has no values: to look at one raises
    loss, logs = objective.loss(encoder, frames, actions)
    loss.backward()
    assert loss.is_meta and all(value.is_meta for value in logs.values())


@pytest.mark.parametrize("name", ["inverse-dynamics", "cpc"])
def test_the_last_action_of_a_window_is_not_used(name: str) -> None:
    objective, encoder = make(name, batch_size=5, sequence_length=3), make_encoder()
    frames, actions = random_batch(objective)
    loss = objective.loss(encoder, frames, actions)[0]
    for row, is_used in ((-1, False), (-2, True)):
        others = actions.clone()
        others[row] = (others[row] + 1) % N_ACTIONS
        assert th.equal(objective.loss(encoder, frames, others)[0], loss) != is_used


def test_random_objective_has_no_loss() -> None:
    objective = make("random")
    assert not objective.trains_encoder and not list(objective.parameters())
    with pytest.raises(RuntimeError, match="trains_encoder"):
        objective.loss(make_encoder(), *random_batch(objective))


# --- W-MSE ---


def pixels(frames: th.Tensor) -> th.Tensor:
    """Return the pixels themselves, (N, Z) float."""
    return frames.flatten(1).float()


def test_wmse_by_hand() -> None:
    # one dimension, pairs (0, 6) and (6, 12): mean 6, variance 72 / 3; both distances are 6
    frames = th.tensor([[0, 6], [6, 12]], dtype=th.uint8).view(2, 2, 1, 1, 1)
    objective = WMSEObjective(1, ACTIONS, batch_size=2, sequence_length=2)
    loss, logs = objective.loss(pixels, frames, th.zeros(2, 2, dtype=th.int64))
    assert loss.item() == pytest.approx(36.0 / 24.0) and logs["ill_conditioned"] == 0.0


def test_wmse_of_equal_and_of_unrelated_frames() -> None:
    th.manual_seed(0)
    objective = WMSEObjective(3, ACTIONS, sequence_length=2, max_shift=0)
    noise = th.randint(256, (2, 5000, 3, 1, 1), dtype=th.uint8)
    actions = th.zeros(2, 5000, dtype=th.int64)
    assert objective.loss(pixels, noise[:1].expand(2, -1, -1, -1, -1), actions)[0] == 0.0
    # two independent variables of variance 1 are 2 apart
    assert objective.loss(pixels, noise, actions)[0].item() == pytest.approx(2.0, abs=0.05)


def seen_by_encoder(objective: WMSEObjective, frames: th.Tensor) -> th.Tensor:
    """Return the inputs of the encoder, (N, C, H, W)."""
    seen: list[th.Tensor] = []

    def encoder(given: th.Tensor) -> th.Tensor:
        seen.append(given)
        return th.randn(len(given), LATENT_SIZE)

    objective.loss(encoder, frames, th.zeros(frames.shape[:2], dtype=th.int64))
    return seen[0]


@pytest.mark.parametrize("sequence_length", [2, 3, 5])
def test_wmse_pairs_are_uniformly_far_apart(sequence_length: int) -> None:
    th.manual_seed(0)
    objective = WMSEObjective(LATENT_SIZE, ACTIONS, sequence_length=sequence_length, max_shift=0)
    # a frame is its row and its window
    rows = th.arange(sequence_length, dtype=th.uint8).view(-1, 1, 1, 1, 1).expand(-1, 3000, 1, 1, 1)
    windows = th.arange(3000).remainder(251).to(th.uint8).view(1, -1, 1, 1, 1).expand(sequence_length, -1, 1, 1, 1)
    first, second = seen_by_encoder(objective, th.cat((rows, windows), dim=2)).flatten(1).chunk(2)
    assert th.equal(first[:, 1], second[:, 1]) and not first[:, 0].any()
    shares = th.bincount(second[:, 0].long(), minlength=sequence_length) / 3000
    expected = [0.0] + [1.0 / (sequence_length - 1)] * (sequence_length - 1)
    assert shares.tolist() == pytest.approx(expected, abs=0.04)


def test_wmse_shifts_both_frames_of_a_pair_each_on_its_own() -> None:
    th.manual_seed(0)
    objective = WMSEObjective(LATENT_SIZE, ACTIONS, batch_size=64, max_shift=4)
    frame = th.randint(256, (1, 12, 12), dtype=th.uint8)
    seen = seen_by_encoder(objective, frame.expand(3, 64, 1, 12, 12))
    shifts = [shifts_of(frame, moved, 4)[0] for moved in seen]
    assert {shift for pair in shifts for shift in pair} == set(range(-4, 5))
    assert sum(first != second for first, second in zip(shifts[:64], shifts[64:], strict=True)) > 55


# --- Cross-entropies by hand ---


def zeroed(objective: EncoderObjective, bias: Callable[[], th.Tensor]) -> EncoderObjective:
    """Return the objective with all weights 0 and this last bias."""
    *parameters, last = objective.parameters()
    with th.no_grad():
        for parameter in parameters:
            parameter.zero_()
        last.copy_(bias())
    return objective


def test_inverse_dynamics_by_hand() -> None:
    objective = zeroed(InverseDynamicsObjective(2, ACTIONS), lambda: th.tensor([0.0, math.log(2.0), math.log(5.0)]))
    frames = th.zeros(2, 4, 1, 1, 2, dtype=th.uint8)
    # probabilities 1/8, 2/8, 5/8; the second row of actions is not used
    loss, logs = objective.loss(pixels, frames, th.tensor([[0, 1, 2, 2], [0, 0, 0, 0]]))
    expected = (math.log(8) + math.log(8 / 2) + 2 * math.log(8 / 5)) / 4
    assert (loss.item(), logs["accuracy"].item()) == pytest.approx((expected, 0.5))


def test_inverse_dynamics_equals_its_layers() -> None:
    objective, encoder = make("inverse-dynamics", batch_size=3, sequence_length=4), make_encoder()
    frames, actions = random_batch(objective)
    logits = []
    for step in range(3):
        pair = th.cat((encoder(frames[step]), encoder(frames[step + 1])), dim=-1)
        first, last = objective.classifier[1], objective.classifier[3]
        logits.append(last(th.relu(first(th.relu(pair)))))
    assert (first.in_features, first.out_features, last.out_features) == (2 * LATENT_SIZE, 128, N_ACTIONS)
    expected = nn.functional.cross_entropy(th.cat(logits), actions[:3].flatten())
    th.testing.assert_close(objective.loss(encoder, frames, actions)[0], expected)


def test_cpc_by_hand() -> None:
    # two windows of two rows in one dimension; every prediction is 1, so the logits are the candidates
    objective = zeroed(CPCObjective(1, ACTIONS, batch_size=2, sequence_length=2), lambda: th.tensor([1.0]))
    frames = th.tensor([[0, 1], [2, 3]], dtype=th.uint8).view(2, 2, 1, 1, 1)
    loss, logs = objective.loss(pixels, frames, th.zeros(2, 2, dtype=th.int64))
    normaliser = math.log(sum(math.exp(candidate) for candidate in range(4)))
    # the targets are 2 and 3, and 3 is the best of all
    assert (loss.item(), logs["accuracy"].item()) == pytest.approx(((2 * normaliser - 2 - 3) / 2, 0.5))


def test_cpc_equals_its_layers_step_by_step() -> None:
    objective, encoder = make("cpc", batch_size=3, sequence_length=5, gru_hidden_size=6), make_encoder()
    assert isinstance(objective, CPCObjective) and make("cpc").memory.hidden_size == 512
    frames, actions = random_batch(objective)
    latents = th.stack([encoder(step) for step in frames])
    cell = nn.GRUCell(LATENT_SIZE + N_ACTIONS, 6)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in objective.memory.state_dict().items()})
    losses, right = [], []
    for window in range(3):
        hidden = th.zeros(6)
        for step in range(4):
            one_hot = th.eye(N_ACTIONS)[actions[step, window]]
            hidden = cell(th.cat((latents[step, window].relu(), one_hot)), hidden)
            scores = th.einsum("z,tbz->tb", objective.head(hidden), latents)
            losses.append(scores.logsumexp(dim=(0, 1)) - scores[step + 1, window])
            right.append(scores[step + 1, window] == scores.max())
    loss, logs = objective.loss(encoder, frames, actions)
    th.testing.assert_close(loss, th.stack(losses).mean())
    assert logs["accuracy"].item() == pytest.approx(sum(map(float, right)) / 12)


# --- Learning ---


def learn(objective: EncoderObjective, learning_rate: float, n_updates: int = 200) -> tuple[float, float]:
    """Train in the toy world, and return the mean loss and accuracy (0 if it is not logged) of the last 20 updates."""
    encoder = make_encoder()
    optimizer = th.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=learning_rate)
    results = []
    for _ in range(n_updates):
        loss, logs = objective.loss(encoder, *toy_batch(objective.batch_size, objective.sequence_length))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        results.append((loss.item(), logs.get("accuracy", th.zeros(())).item()))
    losses, accuracies = zip(*results[-20:], strict=True)
    return sum(losses) / 20, sum(accuracies) / 20


def test_inverse_dynamics_learns_the_actions() -> None:
    # a third is right by chance
    assert learn(make("inverse-dynamics", batch_size=64), learning_rate=1e-2)[1] > 0.95


def test_cpc_learns_which_column_comes_next() -> None:
    objective = make("cpc", batch_size=24, sequence_length=4, gru_hidden_size=32)
    # of 96 candidates 8 show each column, all equally good: log 96 by chance, log 8 at best
    assert learn(objective, learning_rate=1e-2)[0] < math.log(8) + 0.3


def test_wmse_finds_the_slowest_features() -> None:
    # The best 4 features are the slowest waves around the 12 columns: cos and sin of one and of two periods a round. A step
    # keeps (1 + 2 cos(2 pi m / 12)) / 3 of a wave of m periods, and the loss is 2 (1 - correlation).
    kept = [(1 + 2 * math.cos(2 * math.pi * periods / 12)) / 3 for periods in (1, 2)]
    best = sum(2 * (1 - (keep + keep**2) / 2) for keep in kept) / 2
    loss, _ = learn(make("w-mse", max_shift=0), learning_rate=1e-2)
    assert loss == pytest.approx(best, abs=0.1)
