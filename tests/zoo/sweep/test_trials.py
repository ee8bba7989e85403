"""A trial has its own seed, is pruned alone when it fails, and loads again."""

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
from sweep_helpers import TINY

from sb3_lwm.zoo import register
from sb3_lwm.zoo.sweep.search_space import CONTEXT
from sb3_lwm.zoo.sweep.study import SETTINGS, open_storage
from sb3_lwm.zoo.sweep.trials import run_trial

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
        # its own copy of the settings
        own._hyperparams["policy_kwargs"]["net_arch"].append(1)
        settings, fixed = CONTEXT.get()
        assert (settings["policy_kwargs"], list(fixed)) == ({"net_arch": [8, 1]}, ["gamma"])
        drawn.append((own.seed, *numbers()))
        return 1.0

    trials = [FixedTrial({}, number=3), FixedTrial({}, number=4), FixedTrial({}, number=7)]
    # a trial that is run again
    trials[2].set_user_attr("seed", 13)
    assert [run_trial(made, objective, trial) for trial in trials] == [1.0] * 3
    assert [trial.user_attrs["seed"] for trial in trials] == [13, 14, 13]
    assert drawn[0] == drawn[2] and drawn[0][1:] != drawn[1][1:]
    assert (made.seed, made._hyperparams) == (10, {"policy_kwargs": {"net_arch": [8]}})
    # NumPy's seeds have 32 bits
    made.seed = 2**32 - 1
    run_trial(made, objective, last := FixedTrial({}, number=3))
    assert last.user_attrs["seed"] == 2


@pytest.mark.parametrize("error", [MemoryError("Use buffer_size <= 1"), th.OutOfMemoryError("CUDA out of memory.")])
def test_a_lack_of_memory_prunes_the_trial(manager: Manager, error: Exception) -> None:
    study = optuna.create_study(direction="maximize")

    def objective(own: Any, trial: optuna.Trial) -> float:
        if trial.number == 0:
            raise error
        return 1.0

    study.optimize(lambda trial: run_trial(manager(), objective, trial), n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert study.trials[0].user_attrs["failure"] == f"{type(error).__name__}: {error}"


def test_a_loss_that_is_not_finite_prunes_the_trial(manager: Manager) -> None:
    settings: dict[str, Any] = {name: int(value) for name, value in (word.split(":") for word in TINY)}
    made = manager(
        hyperparams={**settings, "n_envs": 2, "learning_rate": 1e30}, n_timesteps=240, optimize_hyperparameters=True
    )
    made.setup_experiment()
    study = optuna.create_study(direction="maximize")
    study.optimize(made.objective, n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2
    for number, trial in enumerate(study.trials):
        assert trial.user_attrs["seed"] == 10 + number and "loss is nan" in trial.user_attrs["failure"]


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("n_steps=0 is wrong")]
)
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
        ({"study_name": "mine", "trial_id": 7}, "study mine has no trial 7 with parameters among its 2 trials"),
        ({"study_name": "mine", "trial_id": 1}, "study mine has no trial 1 with parameters"),
        ({"study_name": "yours", "trial_id": 0}, r"--study-name yours: the storage has no such study\. Its studies: mine\."),
        ({"trial_id": 0}, "--trial-id 0 needs --storage and --study-name"),
    ]:
        with pytest.raises(ValueError, match=message):
            manager(storage=saved, **kwargs).read_hyperparameters()


def test_a_trial_of_a_sweep_has_the_settings_of_its_study(manager: Manager, saved: str) -> None:
    study = optuna.load_study(study_name="mine", storage=open_storage(saved))
    hyperparams = {"policy_kwargs": {"net_arch": [5]}, "policy": "MlpPolicy", "n_timesteps": 70, "tau": 0.5, "batch_size": 3}
    hyperparams["env_kwargs"] = {"max_episode_steps": 7}
    settings = {"env": "POL-3x3-v0", "hyperparams": hyperparams}
    study.set_user_attr(SETTINGS, settings)
    made = manager(storage=saved, study_name="mine", trial_id=0, hyperparams={"tau": 0.25})
    for _ in range(2):
        assert made.read_hyperparameters()[0] == {
            **hyperparams,
            "policy_kwargs": {"net_arch": [5], "gru_hidden_size": 64},
            "tau": 0.25,
            "gamma": 0.75,
            "learning_rate": 1e-3,
        }
    made = manager(storage=saved, study_name="mine", trial_id=0, env_kwargs={"max_episode_steps": 8})
    assert made.read_hyperparameters()[0]["env_kwargs"] == {"max_episode_steps": 8}
    study.set_user_attr(SETTINGS, {**settings, "env": "POL-4x4-v0"})
    with pytest.raises(ValueError, match="The study mine is for POL-4x4-v0: copy the block"):
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
    with pytest.raises(ValueError, match="The study dqn has another algorithm: lwm_dqn has no net_arch"):
        manager(storage=url, study_name="dqn", trial_id=0).read_hyperparameters()
    with pytest.raises(ConnectionError, match=r"other\.db cannot be opened: it does not exist"):
        manager(storage=url.replace("study", "other"), study_name="dqn", trial_id=0).read_hyperparameters()
