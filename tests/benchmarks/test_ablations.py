"""The agents of the ablations: each differs in one setting, and those of other algorithms are trained and evaluated."""

import argparse
from pathlib import Path

import ablations
import labyrinth
import labyrinth_trainings
import labyrinth_variants
import pandas as pd
import pytest
import yaml
import zoo_scores
from helpers import SHORT, make_labyrinths
from rl_zoo3.utils import StoreDict

from sb3_lwm import LWMDQN
from sb3_lwm.common.gru import ResettableGRU


def differences(model: LWMDQN) -> set[str]:
    """Return the names of the ablations that match the model."""
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
def test_ablation_differs_in_its_own_setting_only(name: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-params", nargs="+", action=StoreDict, default={})
    # as the Zoo reads them
    params = parser.parse_args(["-params", *OURS[name].params] if OURS[name].params else []).params
    model = LWMDQN(params.pop("policy", "MlpPolicy"), make_labyrinths(2), seed=0, **{**SHORT, **params})
    assert differences(model) == {name} - {"complete"} and len(OURS[name].params) == len(differences(model))


def test_ablations_replace_no_setting_of_the_complete_agent() -> None:
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
def test_agents_of_other_algorithms(
    agent: str, settings: str, params: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
