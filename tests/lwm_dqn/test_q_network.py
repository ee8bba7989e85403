"""The recurrent Q-network: its initial states, the burn-in, and the dueling head."""

import pytest
import torch as th
from q_learning_helpers import make_model, make_samples

from sb3_lwm.common.type_aliases import RecurrentState


@pytest.mark.parametrize("is_stored", [False, True])
def test_q_values_begin_with_the_initial_states_of_the_samples(is_stored: bool) -> None:
    q_net, samples = make_model().q_net, make_samples(1)
    hidden, first_actions = th.zeros(3, 16), th.zeros(3, dtype=th.int64)
    if is_stored:
        hidden, first_actions = th.rand(3, 16), th.tensor([2, 1, 0])
        samples = samples._replace(initial_states=RecurrentState(hidden, th.rand(3, 12), th.rand(3, 3), first_actions))
    # sequences that begin in the middle of an episode
    samples.episode_starts[0] = False
    last_actions = th.cat((first_actions.unsqueeze(0), samples.actions[:-1]))
    with th.no_grad():
        memories = q_net.remember(
            samples.observations, last_actions, samples.intrinsic_rewards, samples.episode_starts, hidden
        )
        th.testing.assert_close(q_net.q_values(samples, burn_in=0), q_net.head(memories))
        if is_stored:
            # both parts matter
            for part in ("hidden", "last_actions"):
                zeros = {part: th.zeros_like(getattr(samples.initial_states, part))}
                other = samples._replace(initial_states=samples.initial_states._replace(**zeros))  # type: ignore[union-attr]
                assert not th.allclose(q_net.q_values(other, burn_in=0)[0], q_net.head(memories)[0])


@pytest.mark.parametrize("burn_in", [0, 2])
def test_burn_in_has_no_gradient(burn_in: int) -> None:
    q_net, samples = make_model().q_net, make_samples(1)
    assert isinstance(samples.observations, th.Tensor)
    observations = samples.observations.clone().requires_grad_()
    samples = samples._replace(observations=observations)
    q_values = q_net.q_values(samples, burn_in)
    th.testing.assert_close(q_values, q_net.q_values(samples, 0)[burn_in:])
    (gradient,) = th.autograd.grad(q_values.sum(), observations)
    has_gradient = gradient.abs().amax(dim=(1, 2)) > 0.0
    assert has_gradient.tolist() == [False] * burn_in + [True] * (6 - burn_in)


@pytest.mark.parametrize("dueling", [True, False])
def test_dueling_head(dueling: bool) -> None:
    model = make_model(dueling=dueling)
    memories = th.randn(5, 4, 16)
    for network in (model.q_net, model.q_net_target):
        head = network.head
        advantages = head.advantage(memories)
        # the advantages' own bias would only add to the value's
        assert (head.advantage[-1].bias is None) == dueling == (head.value is not None)
        if head.value is None:
            assert th.equal(head(memories), advantages)
        else:
            values = head.value(memories)
            th.testing.assert_close(head(memories), values + advantages - advantages.mean(dim=-1, keepdim=True))
            th.testing.assert_close(head(memories).mean(dim=-1), values.squeeze(-1))
        assert th.equal(head.greedy_actions(memories), head(memories).argmax(dim=-1))
