"""Updates of the Q-network: TD errors with every switch, the loss, the target network, and priorities."""

from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import NETWORKS, changed, weights
from q_learning_helpers import BURN_IN, N_ACTIONS, UNROLL, make_model, make_samples

from sb3_lwm import LWMDQN, PrioritizedSequenceReplayBuffer
from sb3_lwm.common.type_aliases import SequenceSamples


def stub_networks(model: LWMDQN, q_values: th.Tensor, target_q_values: th.Tensor) -> list[tuple[SequenceSamples, int]]:
    """Return a list that collects the arguments of both networks' ``q_values``."""
    calls: list[tuple[SequenceSamples, int]] = []

    def make_stub(values: th.Tensor) -> Any:
        def stub(samples: SequenceSamples, burn_in: int) -> th.Tensor:
            calls.append((samples, burn_in))
            return values[burn_in:]

        return stub

    model.q_net.q_values = make_stub(q_values)  # type: ignore[method-assign]
    model.q_net_target.q_values = make_stub(target_q_values)  # type: ignore[method-assign]
    return calls


# --- Targets ---


def test_td_errors_of_a_table() -> None:
    # one row of burn-in, four learned rows, one for the bootstrap; the episode of row 1 is over at row 3
    q_values = th.tensor([[9.0, 9, 9], [1, 2, 3], [4, 5, 6], [7, 8, 0], [2, 0, 1], [5, 3, 4]]).unsqueeze(1)
    target_q_values = th.tensor([[9.0, 9, 9], [8, 8, 8], [10, 20, 30], [40, 50, 60], [70, 80, 90], [15, 25, 35]]).unsqueeze(1)
    samples = make_samples(1, n_batch=3)
    samples = SequenceSamples(*(None if part is None else part[..., :1] for part in samples))._replace(
        observations=th.zeros(6, 1, 3),
        actions=th.tensor([0, 2, 0, 0, 1, 0]).unsqueeze(1),
        rewards=th.tensor([100.0, 1, 2, 0, 3, 100]).unsqueeze(1),
        finals=th.tensor([0, 0, 0, 1, 0, 0], dtype=th.bool).unsqueeze(1),
    )
    for is_termination, double_q, expected in (
        # row 1: 3 - (1 + 0.5 * 30); row 2: 4 - 2, or 4 - (2 + 0.5 * 50); row 3 is final; row 4: 0 - (3 + 0.5 * 15)
        (True, True, [-13.0, 2.0, 0.0, -10.5]),
        (False, True, [-13.0, -23.0, 0.0, -10.5]),
        # the target network's own best: 30, 60 and 35
        (False, False, [-13.0, -28.0, 0.0, -20.5]),
    ):
        model = make_model(double_q=double_q, value_rescaling=False)
        stub_networks(model, q_values, target_q_values)
        terminations = samples.finals if is_termination else th.zeros_like(samples.finals)
        td_errors = model._td_errors(samples._replace(terminations=terminations))
        assert td_errors.squeeze(1).tolist() == expected


def rescale(value: float) -> float:
    return float(np.sign(value) * (np.sqrt(abs(value) + 1.0) - 1.0) + 1e-3 * value)


def unrescale(value: float) -> float:
    """Return the inverse by bisection, because its formula is tested."""
    low, high = -1e6, 1e6
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rescale(middle) < value else (low, middle)
    return low


def reference(
    q: np.ndarray, target_q: np.ndarray, samples: SequenceSamples, n_steps: int, double_q: bool, value_rescaling: bool
) -> np.ndarray:
    """Return the (unroll, B) TD errors, step by step as the paper describes them."""
    errors = np.zeros((UNROLL, q.shape[1]))
    for row in range(BURN_IN, BURN_IN + UNROLL):
        for column in range(q.shape[1]):
            if samples.finals[row, column]:
                continue
            present, discount, target = row, 1.0, 0.0
            while present < row + n_steps and not samples.finals[present, column]:
                target += discount * samples.rewards[present, column].item()
                discount *= 0.5
                present += 1
            if not samples.terminations[present, column]:
                chooser = q if double_q else target_q
                value = target_q[present, column, np.argmax(chooser[present, column])]
                target += discount * (unrescale(value) if value_rescaling else value)
            taken = q[row, column, samples.actions[row, column]]
            errors[row - BURN_IN, column] = taken - (rescale(target) if value_rescaling else target)
    return errors


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_td_errors_with_every_switch(n_steps: int) -> None:
    samples = make_samples(n_steps)
    shape = (BURN_IN + UNROLL + n_steps, 3, N_ACTIONS)
    generator = th.Generator().manual_seed(1)
    q_values = (3.0 * th.randn(shape, generator=generator)).requires_grad_()
    target_q_values = 3.0 * th.randn(shape, generator=generator)
    results = []
    for double_q in (True, False):
        for value_rescaling in (True, False):
            model = make_model(n_steps=n_steps, double_q=double_q, value_rescaling=value_rescaling)
            calls = stub_networks(model, q_values, target_q_values)
            td_errors = model._td_errors(samples)
            assert calls == [(samples, BURN_IN)] * 2
            expected = reference(
                q_values.detach().numpy(), target_q_values.numpy(), samples, n_steps, double_q, value_rescaling
            )
            np.testing.assert_allclose(td_errors.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
            results.append(expected)
            # the gradient flows through the values of the actions taken only, not through the targets
            (gradient,) = th.autograd.grad(td_errors.sum(), q_values)
            taken = th.zeros(shape).scatter_(-1, samples.actions.unsqueeze(-1), 1.0)
            taken[:BURN_IN] = taken[BURN_IN + UNROLL :] = 0.0
            assert th.equal(gradient, taken.masked_fill(samples.finals.unsqueeze(-1), 0.0))
    assert all(np.abs(first - second).max() > 0.1 for i, first in enumerate(results) for second in results[:i])


# --- Loss, gradient, target network ---


def test_loss_of_weighted_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(gradient_steps=2).learn(64)
    samples = make_samples(1)._replace(importance_weights=th.tensor([1.0, 0.5, 0.25]))
    td_errors = th.tensor([[1.0, 2.0, 0.0], [2.0, 0.0, 4.0]])
    losses: list[float] = []
    assert model.replay_buffer is not None
    monkeypatch.setattr(model.replay_buffer, "sample", lambda batch_size, env: samples)
    monkeypatch.setattr(model, "world_model_trainer", None)
    monkeypatch.setattr(model, "_td_errors", lambda _: td_errors)
    monkeypatch.setattr(model, "_update_q_network", lambda loss: losses.append(loss.item()))
    before = model._n_updates
    model.train(gradient_steps=2, batch_size=3)
    # sums over time 5, 4, 16; weighed 5, 2, 4; their mean
    assert losses == pytest.approx([11.0 / 3.0] * 2)
    assert model._n_updates == before + 2


def test_target_network_moves_by_tau_at_updates_only() -> None:
    model = make_model(tau=0.25)
    target, q_net = weights(model.q_net_target), weights(model.q_net)
    assert not changed(target, q_net)
    # play alone moves nothing, however long
    model.learn(40)
    assert not changed(target, weights(model.q_net_target)) and not changed(q_net, weights(model.q_net))
    for _ in range(3):
        old_target = weights(model.q_net_target)
        model._update_q_network(model._td_errors(make_samples(1)).square().sum())
        new_q_net, new_target = weights(model.q_net), weights(model.q_net_target)
        for name, old in old_target.items():
            th.testing.assert_close(new_target[name], 0.75 * old + 0.25 * new_q_net[name])
        assert changed(old_target, new_target)
    model.learn(2, reset_num_timesteps=False)
    assert not changed(new_target, weights(model.q_net_target))


def test_each_optimizer_has_its_own_parameters() -> None:
    policy = make_model().policy
    assert policy.world_model is not None

    def held(optimizer: th.optim.Optimizer) -> set[int]:
        return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}

    assert held(policy.optimizer) == {id(parameter) for parameter in policy.q_net.parameters()}
    assert held(policy.world_model_optimizer) == {id(parameter) for parameter in policy.world_model.predictor.parameters()}
    assert not held(policy.optimizer) & {id(parameter) for parameter in policy.q_net_target.parameters()}


@pytest.mark.parametrize("max_grad_norm", [1e-3, None])
def test_gradient_clipping_is_that_of_the_q_network_only(max_grad_norm: float | None) -> None:
    # with plain gradient descent of rate 1 the step is the gradient
    networks = {**NETWORKS, "optimizer_class": th.optim.SGD}
    model = make_model(max_grad_norm=max_grad_norm, learning_rate=1.0, policy_kwargs=networks)
    world_model = model.policy.world_model
    assert world_model is not None
    for parameter in world_model.predictor.parameters():
        parameter.grad = th.ones_like(parameter)
    predictor, q_net = weights(world_model), weights(model.q_net)
    model.learn(1)
    model._update_q_network(100.0 * model._td_errors(make_samples(1)).square().sum())
    after = weights(model.q_net)
    norm = th.sqrt(sum((after[name] - q_net[name]).square().sum() for name in q_net)).item()
    assert norm == pytest.approx(1e-3, rel=1e-2) if max_grad_norm is not None else norm > 1.0
    assert not changed(predictor, weights(world_model))
    assert all(th.equal(parameter.grad, th.ones_like(parameter)) for parameter in world_model.predictor.parameters())


def test_schedule_of_the_learning_rate() -> None:
    model = make_model(learning_rate=lambda progress: 1e-3 * progress).learn(80)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_priorities_are_those_of_the_td_errors() -> None:
    model = make_model(prioritized_replay=True, priority_max_weight=0.75, priority_exponent=0.5).learn(80)
    buffer = model.replay_buffer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer) and (buffer.stride, buffer.sequence_length) == (UNROLL, 6)
    assert np.count_nonzero(buffer.weights) > 10
    samples = buffer.sample(2)._replace(sequence_ids=np.array([3, 5]))
    model._update_priorities(samples, th.tensor([[1.0, -8.0], [3.0, 0.0]], requires_grad=True))
    # 0.75 * 3 + 0.25 * 2 and 0.75 * 8 + 0.25 * 4
    np.testing.assert_allclose(buffer.weights[[3, 5], 0], [2.75**0.5, 7.0**0.5], rtol=1e-6)


def test_new_sequences_get_the_priorities_of_their_td_errors() -> None:
    model = make_model(prioritized_replay=True, priority_max_weight=0.75, priority_exponent=0.5).learn(80)
    buffer = model.replay_buffer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer) and model.world_model_trainer is not None
    # all but the newest complete sequence have been taken
    buffer.take_without_priority(n_waiting=0)
    buffer.next_to_prioritize -= 1
    (newest,) = buffer.take_without_priority(n_waiting=1)
    samples = model.world_model_trainer.relabel(buffer.sequences(np.array([newest])))
    with th.no_grad():
        magnitudes = model._td_errors(samples)[:, 0].abs()
    expected = (0.75 * magnitudes.max() + 0.25 * magnitudes.mean()).sqrt().item()
    buffer.weights.reshape(-1)[newest] = 0.0
    buffer.next_to_prioritize -= 1
    # one sequence does not wait for a second one in a batch of 1, and does in a batch of 2
    model._prioritize_new_sequences(batch_size=2)
    assert buffer.weights.reshape(-1)[newest] == 0.0
    model._prioritize_new_sequences(batch_size=1)
    assert buffer.weights.reshape(-1)[newest] == pytest.approx(expected, rel=1e-5)
    # the first ones never wait: there would be nothing to draw
    buffer.weights[:] = 0.0
    buffer.next_to_prioritize -= 1
    model._prioritize_new_sequences(batch_size=2)
    assert np.count_nonzero(buffer.weights) == 1
