"""A trial has its own seed, fails alone, and loads again."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch as th
import yaml
from optuna.trial import FixedTrial, TrialState
from rl_zoo3.exp_manager import ExperimentManager

from sb3_lwm.zoo import register
from sb3_lwm.zoo.search_space import CONTEXT
from sb3_lwm.zoo.storage import open_storage
from sb3_lwm.zoo.trials import SETTINGS, run_trial, trial_seed

Manager = Callable[..., ExperimentManager]
PARAMS = {"gru_hidden_size_pow": 6, "one_minus_gamma": 0.25, "learning_rate": 1e-3}


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    register()
    block = {"policy_kwargs": {"net_arch": [8]}, "policy": "MlpPolicy", "n_timesteps": 100, "learning_rate": 5e-4}
    (tmp_path / "block.yml").write_text(yaml.safe_dump({"POL-3x3-v0": block}))

    def make(algo: str = "lwm_dqn", **kwargs: Any) -> ExperimentManager:
        kwargs = {"config": str(tmp_path / "block.yml"), "seed": 10, "verbose": 0, **kwargs}
        return ExperimentManager(None, algo, "POL-3x3-v0", str(tmp_path / "logs"), **kwargs)

    return make


def numbers() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), float(th.rand(()))


def test_seed(manager: Manager) -> None:
    made = manager(hyperparams={"gamma": 0.9})
    made._hyperparams = {"policy_kwargs": {"net_arch": [8]}}
    drawn: list[tuple[Any, ...]] = []

    def objective(own: Any, trial: Any) -> float:
        assert CONTEXT.get().fixed == {"gamma"}
        # settings of its own
        own._hyperparams["policy_kwargs"]["net_arch"].append(1)
        assert CONTEXT.get().hyperparams["policy_kwargs"] == {"net_arch": [8, 1]}
        drawn.append((own.seed, *numbers()))
        return 1.0

    trials = [FixedTrial({}, number=3), FixedTrial({}, number=4), FixedTrial({}, number=7)]
    # as one that is tried again
    trials[2].set_user_attr("seed", 13)
    assert [run_trial(made, objective, trial) for trial in trials] == [1.0] * 3
    assert [trial.user_attrs["seed"] for trial in trials] == [13, 14, 13]
    assert drawn[0] == drawn[2] and drawn[0][1:] != drawn[1][1:]
    assert (made.seed, made._hyperparams) == (10, {"policy_kwargs": {"net_arch": [8]}})
    assert trial_seed(2**32 - 1, 3) == 2


def out_of_memory() -> None:
    # more than any machine can address
    th.empty(2**50, dtype=th.float64)


def memory_error() -> None:
    raise MemoryError("Use buffer_size <= 1")


def cuda_out_of_memory() -> None:
    raise th.OutOfMemoryError("CUDA out of memory.")


def not_finite() -> None:
    raise ValueError("The loss is nan")


@pytest.mark.parametrize(
    ("fail", "failure"),
    [
        (out_of_memory, "can't allocate memory"),
        (memory_error, "MemoryError: Use buffer_size <= 1"),
        (cuda_out_of_memory, "CUDA out of memory"),
        (not_finite, "ValueError: The loss is nan"),
    ],
)
def test_known_failures_end_the_trial_only(manager: Manager, fail: Callable[[], None], failure: str) -> None:
    study = optuna.create_study(direction="maximize")

    def objective(own: Any, trial: optuna.Trial) -> float:
        if trial.number == 0:
            fail()
        return 1.0

    study.optimize(lambda trial: run_trial(manager(), objective, trial), n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert failure in study.trials[0].user_attrs["failure"]


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("a bug")])
def test_other_failures_are_raised(manager: Manager, error: Exception) -> None:
    def objective(own: Any, trial: Any) -> float:
        raise error

    with pytest.raises(type(error), match=str(error)):
        run_trial(manager(), objective, FixedTrial({}))


def test_pruning_is_left_alone(manager: Manager) -> None:
    def objective(own: Any, trial: Any) -> float:
        raise optuna.TrialPruned

    trial = FixedTrial({})
    with pytest.raises(optuna.TrialPruned):
        run_trial(manager(), objective, trial)
    assert "failure" not in trial.user_attrs


def test_other_algorithms_are_left_alone(manager: Manager) -> None:
    trial = FixedTrial({})
    # the Zoo's own objective, which asks its own sampler
    with pytest.raises(ValueError, match="The value of the parameter 'one_minus_gamma' is not found"):
        manager(algo="sac").objective(trial)
    assert not trial.user_attrs


def test_settings_of_a_module_are_not_changed(manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = {
        "policy": "MlpPolicy",
        "n_envs": 4,
        "n_timesteps": 9,
        "learning_rate": 1e-3,
        "env_kwargs": {"max_episode_steps": 7},
    }
    (tmp_path / "my_module.py").write_text(f"hyperparams = {{'default': {block}}}")
    monkeypatch.syspath_prepend(tmp_path)
    made = manager(config="my_module", optimize_hyperparameters=True)
    made.setup_experiment()
    assert made.n_envs == 4
    assert made.read_hyperparameters() == (block, block)


@pytest.fixture(params=["sqlite:///{}/study.db", "{}/study.log"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = request.param.format(tmp_path)
    study = optuna.create_study(storage=open_storage(url), study_name="mine", direction="maximize")
    distributions = {
        "gru_hidden_size_pow": optuna.distributions.IntDistribution(5, 8),
        "one_minus_gamma": optuna.distributions.FloatDistribution(0.1, 0.5),
        "learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-2),
    }
    study.add_trial(optuna.create_trial(params=PARAMS, distributions=distributions, value=1.0))
    study.enqueue_trial({})
    return url


def test_a_saved_trial_loads(manager: Manager, saved: str) -> None:
    given = {"learning_rate": 2e-3}
    made = manager(storage=saved, study_name="mine", trial_id=0, hyperparams=given)
    hyperparams, to_be_saved = made.read_hyperparameters()
    assert hyperparams == dict(to_be_saved)
    assert hyperparams["gamma"] == 0.75 and hyperparams["learning_rate"] == 2e-3
    assert hyperparams["policy_kwargs"] == {"net_arch": [8], "gru_hidden_size": 64}


def test_a_trial_that_is_not_there(manager: Manager, saved: str) -> None:
    for kwargs, message in [
        ({"study_name": "mine", "trial_id": 7}, r"study mine has no trial 7: it has trials 0 to 1\."),
        ({"study_name": "mine", "trial_id": -1}, "study mine has no trial -1"),
        ({"study_name": "mine", "trial_id": 1}, r"Trial 1 of the study mine has no parameters: it is WAITING\."),
        ({"study_name": "yours", "trial_id": 0}, r"--study-name yours: the storage has no such study\. It has: mine\."),
        ({"trial_id": 0}, "--trial-id 0 is a trial of which study"),
    ]:
        with pytest.raises(ValueError, match=message):
            manager(storage=saved, **kwargs).read_hyperparameters()


def test_a_trial_of_a_sweep_has_the_settings_of_its_study(manager: Manager, saved: str) -> None:
    study = optuna.load_study(study_name="mine", storage=open_storage(saved))
    hyperparams = {"policy_kwargs": {"net_arch": [5]}, "policy": "MlpPolicy", "n_timesteps": 70, "tau": 0.5, "batch_size": 3}
    settings = {"algo": "lwm_dqn", "env": "POL-3x3-v0", "env_kwargs": {"max_episode_steps": 7}, "hyperparams": hyperparams}
    study.set_user_attr(SETTINGS, settings)
    made = manager(storage=saved, study_name="mine", trial_id=0, hyperparams={"tau": 0.25})
    for _ in range(2):
        assert made.read_hyperparameters()[0] == {
            **hyperparams,
            "policy_kwargs": {"net_arch": [5], "gru_hidden_size": 64},
            "env_kwargs": {"max_episode_steps": 7},
            "tau": 0.25,
            "gamma": 0.75,
            "learning_rate": 1e-3,
        }
    made = manager(storage=saved, study_name="mine", trial_id=0, env_kwargs={"max_episode_steps": 8})
    assert made.read_hyperparameters()[0]["env_kwargs"] == {"max_episode_steps": 8}
    study.set_user_attr(SETTINGS, {**settings, "env": "POL-4x4-v0"})
    with pytest.raises(ValueError, match="The study mine is of lwm_dqn on POL-4x4-v0, not of lwm_dqn on POL-3x3-v0"):
        made.read_hyperparameters()


def test_a_trial_of_another_algorithm(manager: Manager, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=open_storage(url), study_name="dqn", direction="maximize")
    params = {"net_arch": "small", "one_minus_gamma": 0.25}
    distributions = {
        "net_arch": optuna.distributions.CategoricalDistribution(["small"]),
        "one_minus_gamma": optuna.distributions.FloatDistribution(0.1, 0.5),
    }
    study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=1.0))
    with pytest.raises(ValueError, match="The study dqn is of another algorithm: lwm_dqn has no net_arch"):
        manager(storage=url, study_name="dqn", trial_id=0).read_hyperparameters()
    with pytest.raises(ValueError, match=r"other\.db does not exist"):
        manager(storage=url.replace("study", "other"), study_name="dqn", trial_id=0).read_hyperparameters()
