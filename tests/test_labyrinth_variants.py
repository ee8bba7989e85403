"""The agents of the ablations: each differs in what its name says, and acts as it learns; the outsiders train and play."""

import argparse
from pathlib import Path

import ablations
import labyrinth
import labyrinth_trainings
import labyrinth_variants
import numpy as np
import pandas as pd
import pytest
import torch as th
import yaml
import zoo_scores
from helpers import SHORT, make_labyrinths
from rl_zoo3.utils import StoreDict
from test_act_replay import check_acting_and_replay_agree

from sb3_lwm import LWMDQN
from sb3_lwm.common.gru import ResettableGRU
from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.world_model import LatentWorldModel


def make_variant(policy: str) -> LWMDQN:
    assert labyrinth_variants.LWMDQN.policy_aliases[policy]
    return LWMDQN(policy, make_labyrinths(2), seed=0, **SHORT)


@pytest.mark.parametrize("policy", ["NeverResetPolicy", "RawErrorPolicy", "PaidResetsPolicy"])
def test_a_variant_acts_as_it_learns(policy: str) -> None:
    check_acting_and_replay_agree(0, policy)


def test_never_reset() -> None:
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


def test_raw_errors() -> None:
    model = make_variant("RawErrorPolicy")
    assert model.policy.world_model is not None
    model.learn(100)
    errors = th.tensor([0.0, 0.5, 2.0])
    assert th.equal(model.policy.world_model.normalizer(errors), errors)


def test_resets_are_paid() -> None:
    policy = make_variant("PaidResetsPolicy").policy
    world_model, state = policy.world_model, policy.initial_state(1)
    assert world_model is not None
    observations, actions, nothing = th.randint(2, (5, 1, 4)).float(), th.randint(4, (5, 1)), th.zeros(5, 1)
    # the third row is the final observation of an episode
    starts, finals = th.tensor([[True, False, False, True, False], [False, False, True, False, False]])[..., None]
    fields = (observations, actions, nothing, starts, finals, finals, None, th.ones(1), np.zeros(1, dtype=np.int64), nothing)
    samples = SequenceSamples(*fields)
    errors, losses = world_model.sequence_errors(samples, state)
    expected, _ = world_model.expect(observations[:2], actions[:2], state.model_hidden, starts[:2])
    surprise = th.nn.functional.mse_loss(expected[1, 0], observations[3, 0])
    entropy = th.nn.functional.binary_cross_entropy(expected[1, 0], observations[3, 0])
    assert errors[2, 0].item() == pytest.approx(surprise.item(), rel=1e-4)
    assert losses[1, 0].item() == pytest.approx(entropy.item(), rel=1e-4)
    # of the rows that count, no other is different
    usual_errors, usual_losses = LatentWorldModel.sequence_errors(world_model, samples, state)
    assert th.equal(errors[[1, 4]], usual_errors[[1, 4]]) and th.equal(losses[[0, 3]], usual_losses[[0, 3]])


def differences(model: LWMDQN) -> set[str]:
    """:return: names of the ablations that the model is"""
    world_model = model.policy.world_model
    # of the Q-network, its target and the world model
    memories = [module for module in model.policy.modules() if isinstance(module, ResettableGRU)]
    assert len(memories) == (2 if world_model is None else 3)
    found = {
        "no-world-model": world_model is None,
        "reward-not-seen": not model.policy.intrinsic_reward_input,
        "never-reset": all(isinstance(memory, labyrinth_variants.NeverResetGRU) for memory in memories),
        "prioritized": model.prioritized_replay,
        "not-clipped": model.max_grad_norm is None,
        "no-burn-in": model.burn_in == 0,
    }
    if world_model is not None:
        found["paid-resets"] = isinstance(world_model, labyrinth_variants.SurprisedByResets)
        found["squared-error"] = not world_model.predictor.cross_entropy
        found["raw-errors"] = isinstance(world_model.normalizer, labyrinth_variants.RawErrors)
    return {name for name, is_true in found.items() if is_true}


OURS = {name: agent for name, agent in ablations.AGENTS.items() if agent.algo == "lwm_dqn"}


@pytest.mark.parametrize("name", OURS)
def test_an_ablation_is_what_it_says_and_nothing_else(name: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-params", nargs="+", action=StoreDict, default={})
    # as the Zoo reads them
    params = parser.parse_args(["-params", *OURS[name].params] if OURS[name].params else []).params
    model = LWMDQN(params.pop("policy", "MlpPolicy"), make_labyrinths(2), seed=0, **{**SHORT, **params})
    assert differences(model) == {name} - {"complete"} and len(OURS[name].params) == len(differences(model))


def test_settings_that_ablations_would_replace() -> None:
    settings = yaml.safe_load((labyrinth_trainings.HERE.parent / "hyperparams" / "labyrinth.yml").read_text())["POL-4x4-v0"]
    assert settings["policy"] == "MlpPolicy" and "policy_kwargs" not in settings
    assert settings["burn_in"] > 0 and settings["max_grad_norm"] is not None and not settings["prioritized_replay"]


@pytest.mark.parametrize(
    ("agent", "settings", "params"),
    [
        ("stacked-dqn", "outside_dqn", ["learning_starts:100"]),
        ("recurrent-ppo", "outside_ppo_lstm", ["n_steps:20", "n_epochs:1"]),
    ],
)
def test_an_outsider(agent: str, settings: str, params: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labyrinth, "EVALUATION_EPISODES", 2)
    monkeypatch.setattr(labyrinth, "TIME_LIMIT", 30)
    monkeypatch.setattr(labyrinth, "handle_interruptions", lambda handler: None)
    shares: list[float] = []
    explore = zoo_scores.explore
    monkeypatch.setattr(zoo_scores, "explore", lambda *given: (shares.append(given[1]), explore(*given))[1])
    output = tmp_path / "out.csv"
    what = ["--agents", agent, "--seeds", "1", "--sizes", "3", "--steps", "1600", "--interval", "800", "--params", *params]
    labyrinth.main(ablations.AGENTS, arguments=[*what, "--runs", str(tmp_path / "runs"), "--output", str(output)])
    results = pd.read_csv(output)
    evaluations = results[results.kind == "evaluation"]
    assert evaluations.steps.tolist() == [800, 1600] and set(evaluations.episodes) == {2}
    assert evaluations.mean_steps.between(9, 30).all() and set(shares) == {0.01}
    assert set(results.settings) == {f"{settings} {' '.join(params)}"}
    assert results[["wall_seconds", "torch", "sb3_lwm"]].notna().all(axis=None)


def test_epsilon_of_others() -> None:
    class Model:
        action_space = make_labyrinths(1).action_space

        def predict(
            self, observation: object, state: object, episode_start: object, deterministic: bool
        ) -> tuple[object, str]:
            assert deterministic
            return np.zeros(10_000, dtype=np.int64), "state"

    np.random.seed(0)
    player = zoo_scores.EpsilonGreedy(Model(), 0.2)  # type: ignore[arg-type]
    actions, state = player.predict(None, None, None, True)
    # a random action may be the greedy one
    assert state == "state" and (actions != 0).mean() == pytest.approx(0.2 * 3 / 4, abs=0.01)
