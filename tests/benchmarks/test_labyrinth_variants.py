"""The policies of the ablations: each acts as it learns, and differs from the complete agent as its name says."""

import labyrinth_variants
import numpy as np
import pytest
import torch as th
from acting_helpers import check_acting_and_replay_agree
from helpers import SHORT, make_labyrinths

from sb3_lwm import LWMDQN
from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.world_model import LatentWorldModel


def make_variant(policy: str) -> LWMDQN:
    assert labyrinth_variants.LWMDQN.policy_aliases[policy]
    return LWMDQN(policy, make_labyrinths(2), seed=0, **SHORT)


@pytest.mark.parametrize("policy", ["NeverResetPolicy", "RawErrorPolicy", "PaidResetsPolicy"])
def test_variant_acts_as_it_learns(policy: str) -> None:
    # at the end of the burn-in a GRU that is never reset cannot see whether an episode has just ended there
    check_acting_and_replay_agree(0, policy, burn_in=0)


def test_hidden_states_that_are_never_reset() -> None:
    model = make_variant("NeverResetPolicy")
    assert model.policy.world_model is not None
    for memory in (model.q_net.memory, model.q_net_target.memory, model.policy.world_model.predictor.memory):
        inputs = th.randn(4, 1, memory.cell.input_size)
        starts = th.tensor([[False], [False], [True], [False]])
        hidden = th.ones(1, memory.hidden_size)
        acted = [hidden]
        with th.no_grad():
            # the second row is the final observation, before a start
            for row in (0, 2, 3):
                acted.append(memory(inputs[row : row + 1], acted[-1], starts[row : row + 1])[0])
        replayed = memory(inputs, hidden, starts)
        th.testing.assert_close(replayed, th.stack((acted[1], acted[1], acted[2], acted[3])))
        replayed.sum().backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in memory.parameters())


def test_intrinsic_reward_of_raw_errors() -> None:
    model = make_variant("RawErrorPolicy")
    assert model.policy.world_model is not None
    model.learn(100)
    errors = th.tensor([0.0, 0.5, 2.0])
    assert th.equal(model.policy.world_model.normalizer(errors), errors)


def test_intrinsic_reward_of_resets() -> None:
    policy = make_variant("PaidResetsPolicy").policy
    world_model, state = policy.world_model, policy.initial_state(1)
    assert world_model is not None
    observations, actions, nothing = th.randint(2, (5, 1, 4)).float(), th.randint(4, (5, 1)), th.zeros(5, 1)
    # the third row is the final observation of an episode
    starts, finals = th.tensor([[True, False, False, True, False], [False, False, True, False, False]])[..., None]
    fields = (observations, actions, nothing, starts, finals, finals, None, th.ones(1), np.zeros(1, dtype=np.int64), nothing)
    samples = SequenceSamples(*fields)
    errors, losses = world_model.sequence_errors(samples)
    expected, _ = world_model.expect(observations[:2], actions[:2], state.model_hidden, starts[:2])
    surprise = th.nn.functional.mse_loss(expected[1, 0], observations[3, 0])
    entropy = th.nn.functional.binary_cross_entropy(expected[1, 0], observations[3, 0])
    assert errors[2, 0].item() == pytest.approx(surprise.item(), rel=1e-4)
    assert losses[1, 0].item() == pytest.approx(entropy.item(), rel=1e-4)
    # of the rows that count, no other is different
    usual_errors, usual_losses = LatentWorldModel.sequence_errors(world_model, samples)
    assert th.equal(errors[[1, 4]], usual_errors[[1, 4]]) and th.equal(losses[[0, 3]], usual_losses[[0, 3]])
