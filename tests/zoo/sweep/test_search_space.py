"""The search space: every sample makes an agent, and what the user has fixed is not searched."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import optuna
import pytest
from gymnasium import spaces
from helpers import NETWORKS, make_random_envs
from optuna.samplers import RandomSampler
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

from sb3_lwm import LWMDQN
from sb3_lwm.zoo import register
from sb3_lwm.zoo.sweep.search_space import CONTEXT, convert_lwm_dqn_params, merge, sample_lwm_dqn_params

IMAGES = spaces.Box(0, 255, (36, 36, 1), np.uint8)
SMALL_IMAGES = {"policy": "CnnPolicy", "buffer_size": 3000, "learning_starts": 300}


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=RandomSampler(seed=0))


def sample(study: optuna.Study, settings: Mapping[str, Any], n_envs: int = 2, fixed: tuple[str, ...] = ()) -> dict[str, Any]:
    token = CONTEXT.set((settings, fixed))
    try:
        trial = study.ask()
        sampled = sample_lwm_dqn_params(trial, 0, n_envs, {})
    finally:
        CONTEXT.reset(token)
    # a saved trial gives the same
    assert merge(settings, convert_lwm_dqn_params(trial.params)) == {**settings, **sampled}
    return sampled


def test_the_zoo_knows_both() -> None:
    register()
    assert HYPERPARAMS_SAMPLER["lwm_dqn"] is sample_lwm_dqn_params
    assert HYPERPARAMS_CONVERTER["lwm_dqn"] is convert_lwm_dqn_params


@pytest.mark.parametrize(
    ("settings", "n_envs", "n_samples"),
    [
        ({"policy": "MlpPolicy"}, 2, 40),
        # no room for the longest sequences: 20 rows of each environment
        ({"policy": "MlpPolicy", "learning_starts": 80, "buffer_size": 10_000, "pretraining_updates": 0}, 4, 40),
        ({"policy": "MlpPolicy", "learning_starts": 300, "buffer_size": 300, "pretraining_updates": 0}, 2, 20),
        ({"policy": "MlpPolicy", "use_world_model": False, "exploration_eps_base": 0.4}, 2, 20),
        (SMALL_IMAGES, 2, 8),
    ],
)
def test_every_sample_makes_an_agent(study: optuna.Study, settings: dict[str, Any], n_envs: int, n_samples: int) -> None:
    env = make_random_envs(**({"observation_space": IMAGES} if settings["policy"] == "CnnPolicy" else {}), n_envs=n_envs)
    seen: dict[str, set[Any]] = {}
    for _ in range(n_samples):
        sampled = sample(study, settings, n_envs)
        model = LWMDQN(env=env, device="cpu", **{**settings, **sampled})
        assert model.policy.gru_hidden_size == sampled["policy_kwargs"]["gru_hidden_size"]
        for name in ("unroll", "n_steps", "train_freq", "prioritized_replay"):
            seen.setdefault(name, set()).add(sampled[name])
        # the exponents only where they mean something
        assert ("priority_exponent" in sampled) == sampled["prioritized_replay"]
        assert ("intrinsic_reward_scale" in sampled) == settings.get("use_world_model", True)
        assert ("exploration_eps_base" in sampled) == ("exploration_eps_base" in settings)
        assert model.exploration_initial_eps in (1.0, model.exploration_final_eps)
    assert all(len(values) > 1 for name, values in seen.items() if name != "unroll"), seen
    if settings["policy"] == "CnnPolicy":
        assert model.policy.world_model is not None
        assert model.policy.world_model.latent_size in (16, 32, 64)
    env.close()


def test_what_is_fixed_is_not_chosen(study: optuna.Study) -> None:
    settings = {"burn_in": 3, "unroll": 4, "gamma": 0.9, "batch_size": 5, "policy_kwargs": {"gru_hidden_size": 7}}
    fixed = tuple(settings)
    for _ in range(10):
        sampled = sample(study, settings, fixed=fixed)
        assert not set(fixed) & set(sampled)
        assert sampled["n_steps"] < 4
    for n_steps in (5, 9):
        assert sample(study, {"n_steps": n_steps}, fixed=("n_steps",))["unroll"] > n_steps


def test_sequences_that_fit_nowhere(study: optuna.Study) -> None:
    with pytest.raises(ValueError, match="No unroll of 8 to 64 fits n_steps=5, burn_in=0 and 10 rows of each of 2"):
        sample(study, {"learning_starts": 20, "buffer_size": 10_000})
    with pytest.raises(ValueError, match=r"No unroll of 8 to 64 fits n_steps=100, .*fix burn_in, unroll and n_steps"):
        sample(study, {"n_steps": 100}, fixed=("n_steps",))


def test_nothing_is_chosen_that_has_no_effect(study: optuna.Study) -> None:
    sampled = sample(study, {"intrinsic_reward_scale": 0.0}, fixed=("intrinsic_reward_scale",))
    assert not {name for name in sampled if name.startswith("intrinsic_reward")} and "world_model_learning_rate" in sampled
    for name in ("exploration_initial_eps", "exploration_final_eps"):
        sampled = sample(study, {name: 0.05}, fixed=(name,))
        assert "exploration_fraction" not in sampled and "exploration_anneals" not in study.trials[-1].params


def test_policy_kwargs_are_merged(study: optuna.Study) -> None:
    settings: dict[str, Any] = {"policy_kwargs": deepcopy(NETWORKS)}
    before = deepcopy(settings)
    sampled = sample(study, settings)["policy_kwargs"]
    # nested dictionaries are shared between trials
    assert settings == before
    predictor = sampled["world_model_kwargs"]["predictor_kwargs"]
    assert (sampled["net_arch"], predictor["head_size"]) == ([8], 8)
    assert sampled["world_model_kwargs"]["encoder_objective_kwargs"] == {"batch_size": 8}
    assert sampled["gru_hidden_size"] >= 32 and predictor["gru_hidden_size"] >= 32
    # Python code of the Zoo
    with pytest.raises(ValueError, match=r"policy_kwargs='dict\(net_arch=\[8\]\)' is Python code"):
        merge({"policy_kwargs": "dict(net_arch=[8])"}, {"policy_kwargs": {"gru_hidden_size": 32}})
    # no world model, no sizes of it
    assert "world_model_kwargs" not in convert_lwm_dqn_params({"gru_hidden_size_pow": 5})["policy_kwargs"]
    nothing = sample(study, {"policy_kwargs": {"world_model_kwargs": None}})
    assert nothing["policy_kwargs"]["world_model_kwargs"] is None and "intrinsic_reward_scale" not in nothing


def test_converter() -> None:
    params = {"one_minus_gamma": 0.25, "unroll_pow": 4, "learning_rate": 1e-3, "gru_hidden_size_pow": 6}
    assert convert_lwm_dqn_params(params) == {
        "gamma": 0.75,
        "unroll": 16,
        "learning_rate": 1e-3,
        "policy_kwargs": {"gru_hidden_size": 64},
    }
    epsilons = {"exploration_final_eps": 0.02}
    assert convert_lwm_dqn_params({**epsilons, "exploration_anneals": False})["exploration_initial_eps"] == 0.02
    assert convert_lwm_dqn_params({**epsilons, "exploration_anneals": True})["exploration_initial_eps"] == 1.0
    assert "exploration_initial_eps" not in convert_lwm_dqn_params(epsilons)
