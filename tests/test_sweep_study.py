"""A study that workers share: exactly so many trials, each finished once, with the same seeds whoever runs them."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState
from test_storage import grpc_proxy

from sb3_lwm.zoo import sweep_study
from sb3_lwm.zoo.storage import AttributeHeartbeat, open_storage
from sb3_lwm.zoo.sweep_study import (
    SETTINGS,
    SweepOver,
    SweepStudy,
    begin_or_join,
    best_trial,
    count_states,
    describe,
    queue_trials,
)


class MemoryStorage(AttributeHeartbeat, InMemoryStorage):
    """For tests of one process."""

    heartbeat_interval = 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_study, "POLL", 0.05)
    # after each trial, which takes a third of a second
    monkeypatch.setattr("gc.collect", lambda: 0)
    monkeypatch.setattr(sweep_study, "BEGINNING_TIMEOUT", 0.5)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def storage() -> BaseStorage:
    return MemoryStorage()


def settings(**kwargs: Any) -> dict[str, Any]:
    return {"seed": 5, "max_total_trials": 6, "env": "POL-3x3-v0", **kwargs}


def join(storage: BaseStorage, **kwargs: Any) -> SweepStudy:
    begin_or_join(storage, "mine", settings(**kwargs))
    return SweepStudy("mine", storage, lambda seed: RandomSampler(seed=seed), NopPruner(), {"worker": "me"})


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def finished(study: optuna.Study) -> list[tuple[int, float]]:
    """:return: seed and value of the finished trials"""
    return sorted((t.user_attrs["seed"], t.params["x"]) for t in study.trials if t.state in sweep_study.FINISHED)


def test_all_trials_and_no_more(storage: BaseStorage) -> None:
    study = join(storage)
    study.work(objective, n_trials=2)
    assert count_states(study) == {TrialState.COMPLETE: 2, TrialState.WAITING: 4}
    study.work(objective)
    assert [trial.user_attrs["seed"] for trial in study.trials] == [5, 6, 7, 8, 9, 10]
    assert count_states(study) == {TrialState.COMPLETE: 6}
    with pytest.raises(SweepOver):
        study.ask()
    queue_trials(study, 5, 2)
    study.work(objective)
    assert [trial.user_attrs["seed"] for trial in study.trials[6:]] == [11, 12]
    # no two trials begin with the same sample
    assert len({x for _, x in finished(study)}) == 8
    assert "8 complete" in describe(study) and f"trial {best_trial(study).number}, value" in describe(study)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_trial_is_the_same_whoever_runs_it(storage: BaseStorage, n_workers: int) -> None:
    studies = [join(storage) for _ in range(n_workers)]
    threads = [threading.Thread(target=study.work, args=(objective,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [seed for seed, _ in finished(studies[0])] == [5, 6, 7, 8, 9, 10]
    # the same numbers for one worker and for three
    alone = join(MemoryStorage())
    alone.work(objective)
    assert finished(studies[0]) == finished(alone)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_unfinished_trial_is_put_back(storage: BaseStorage, error: type[BaseException]) -> None:
    study = join(storage)

    def fail(trial: optuna.Trial) -> float:
        x = objective(trial)
        if trial.user_attrs["seed"] == 7:
            raise error
        return x

    # one that fails is put back three times, one that is interrupted always
    for _ in range(4):
        with pytest.raises(error):
            study.work(fail)
    lost = 0 if error is KeyboardInterrupt else 1
    study.work(objective)
    assert count_states(study) == {TrialState.COMPLETE: 6 - lost, TrialState.FAIL: 4}
    if not lost:
        alone = join(MemoryStorage())
        alone.work(objective)
        # the same parameters as at first
        assert finished(study) == finished(alone)


def test_a_dead_workers_trial_is_put_back(storage: BaseStorage) -> None:
    dead = join(storage)
    study = join(storage)
    trial = dead.ask()
    x = trial.suggest_float("x", 0.0, 1.0)
    study.work(objective)
    assert count_states(study) == {TrialState.COMPLETE: 6, TrialState.FAIL: 1}
    assert (5, x) in finished(study)
    assert study.trials[0].state == TrialState.FAIL and study.trials[6].system_attrs["retry_history"] == [0]


@pytest.mark.parametrize("reports", [False, True])
def test_a_worker_that_was_taken_for_dead_goes_on(
    storage: BaseStorage, reports: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, other = join(storage, max_total_trials=3), join(storage, max_total_trials=3)

    def stalled(trial: optuna.Trial) -> float:
        if trial.number == 0:
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            sweep_study.retry_callback()(other, other.trials[0])
            if reports:
                trial.report(0.0, step=1)
        return objective(trial) if trial.number else 0.0

    slow.work(stalled)
    assert "Trial 0 was taken for dead" in capsys.readouterr().out
    assert count_states(slow) == {TrialState.COMPLETE: 3, TrialState.FAIL: 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_ends_a_worker_is_not_dropped_with_a_trial(storage: BaseStorage, error: type[BaseException]) -> None:
    slow, other = join(storage, max_total_trials=1), join(storage, max_total_trials=1)

    def stalled(trial: optuna.Trial) -> float:
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        sweep_study.retry_callback()(other, other.trials[0])
        raise error

    with pytest.raises(error):
        slow.work(stalled)
    # the other worker's trial was not queued once more
    assert count_states(slow) == {TrialState.FAIL: 1, TrialState.WAITING: 1}


def test_a_trial_that_another_program_has_taken(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SweepStudy, "_patience", lambda study: 0.1)
    study = join(storage, max_total_trials=2)
    storage.set_trial_state_values(study.trials[0]._trial_id, TrialState.RUNNING)
    study.work(objective)
    assert "Another program has trials [0]" in capsys.readouterr().out
    assert count_states(study) == {TrialState.RUNNING: 1, TrialState.COMPLETE: 1}


def test_interruptions_are_no_retries(storage: BaseStorage) -> None:
    study = join(storage, max_total_trials=1)
    errors: list[type[BaseException]] = [KeyboardInterrupt] * 3 + [RuntimeError] * 3

    def fail(trial: optuna.Trial) -> float:
        raise errors[trial.number]

    for error in errors:
        with pytest.raises(error):
            study.work(fail)
    assert count_states(study) == {TrialState.FAIL: 6, TrialState.WAITING: 1}


def test_the_first_of_the_best(storage: BaseStorage) -> None:
    study = join(storage, max_total_trials=4)
    study.work(lambda trial: [0.0, 1.0, 1.0, -1.0][trial.number])
    assert best_trial(study).number == 1


def test_settings_with_a_tuple(storage: BaseStorage) -> None:
    for _ in range(2):
        assert len(join(storage, net_arch=(8, 8)).trials) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda storage: begin_or_join(storage, "mine", settings(env="CartPole-v1", algo="dqn")),
            "mine was begun with other settings: algo: 'dqn' there, None here; env: 'CartPole-v1' there, 'POL-3x3-v0' here",
        ),
        (lambda storage: optuna.create_study(storage=storage, study_name="mine", direction="maximize"), "has not begun"),
        (lambda storage: optuna.create_study(storage=storage, study_name="mine"), "direction: minimize"),
    ],
)
def test_a_study_of_something_else(storage: BaseStorage, make: Callable[[BaseStorage], Any], message: str) -> None:
    make(storage)
    with pytest.raises(ValueError, match=message):
        join(storage)


def test_joining_waits_for_a_study_that_is_being_begun(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="mine", direction="maximize")
    timer = threading.Timer(0.2, study.set_user_attr, args=(SETTINGS, settings()))
    timer.start()
    assert join(storage).study_name == "mine"
    timer.join()


def test_nothing_was_completed(storage: BaseStorage) -> None:
    study = join(storage, max_total_trials=2)

    def fail(trial: optuna.Trial) -> float:
        trial.set_user_attr("failure", "MemoryError: too large")
        raise optuna.TrialPruned

    study.work(fail)
    assert describe(study).splitlines()[1:] == ["No trial was completed.", "2 failed: MemoryError: too large"]


@pytest.mark.parametrize("kind", ["database", "journal", "grpc"])
def test_a_killed_worker(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = {"database": f"sqlite:///{tmp_path}/study.db", "journal": f"{tmp_path}/study.log"}.get(kind)
        storage = open_storage(url or stack.enter_context(grpc_proxy(tmp_path)), heartbeat=1)
        dead = join(storage, max_total_trials=2)
        # the heartbeat counts from the moment a trial is taken
        trial = dead.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        study = join(storage, max_total_trials=2)
        study.work(objective)
        assert count_states(study) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}
        assert study.trials[0].state == TrialState.FAIL and (5, x) in finished(study)
