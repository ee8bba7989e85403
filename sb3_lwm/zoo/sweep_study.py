"""
A study that any number of workers share: begun by exactly one of them, joined by those who want the same, and worked off
trial by trial until none is left.

All its trials are queued when it is begun, each with its seed. A worker takes one out of the queue, which the storage lets
only one of them do; a trial whose worker dies goes back to the queue. So none is finished twice. Only those are lost that fail
again and again, or that a worker was putting back when it was killed itself.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sb3_lwm.zoo.storage import SILENT_HEARTBEATS, experimental, load_study, retry_callback
from sb3_lwm.zoo.trials import SETTINGS, trial_seed

# Seconds without a new trial in a study that somebody is beginning
BEGINNING_TIMEOUT = 20.0
POLL = 1.0  # seconds between two looks for work
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
OPEN = (TrialState.WAITING, TrialState.RUNNING)


class SweepOver(Exception):
    """No trial is left to run."""


class SweepStudy(optuna.Study):
    """
    Optuna's study whose trials come out of its queue only, never more than were queued.

    :param name: of a study that was begun by :func:`begin_or_join`
    :param storage: with a heartbeat
    :param make_sampler: makes the sampler of a trial from its seed: whichever worker runs it, it begins with the same random
        numbers, and no two trials with the same
    :param pruner: of the trials
    :param worker: attributes that its trials get, its name at least: what lacks one was taken by another program
    """

    def __init__(
        self,
        name: str,
        storage: BaseStorage,
        make_sampler: Callable[[int], BaseSampler],
        pruner: optuna.pruners.BasePruner,
        worker: dict[str, Any],
    ) -> None:
        super().__init__(study_name=name, storage=storage, pruner=pruner)
        self.storage = storage
        self.make_sampler = make_sampler
        self.worker = worker
        self.in_hand: FrozenTrial | None = None

    def ask(self, fixed_distributions: dict[str, Any] | None = None) -> optuna.Trial:
        """
        Take a trial out of the queue; wait while it is empty, but other workers still run, which may die.

        :param fixed_distributions: not used
        :return: the trial
        :raises SweepOver: if all are finished, or what is left is in the hands of another program, which nobody can watch
        """
        self.in_hand = None
        foreign: list[int] = []
        since = time.monotonic()
        while True:
            with experimental():
                fail_stale_trials(self)
            for trial in self.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                if self._take(trial):
                    return self._start(trial)
            # a trial that was put back while we looked is waiting now
            left = self.get_trials(deepcopy=False, states=OPEN)
            if not left:
                raise SweepOver
            numbers = [trial.number for trial in left if "worker" not in trial.user_attrs]
            if numbers != foreign:
                foreign, since = numbers, time.monotonic()
            if len(foreign) == len(left) and time.monotonic() - since > self._patience():
                print(f"Another program has trials {foreign}, such as rl_zoo3.train -optimize: not waiting for them.")
                raise SweepOver
            time.sleep(POLL)

    def _patience(self) -> float:
        """:return: seconds after which a worker's trial has its name, or was taken for dead"""
        return 2.0 * SILENT_HEARTBEATS * self.storage.get_heartbeat_interval()  # type: ignore[attr-defined]

    def _start(self, trial: FrozenTrial) -> optuna.Trial:
        self.in_hand = trial
        self._thread_local.cached_all_trials = None
        self.sampler = self.make_sampler(trial.user_attrs["seed"])
        started = optuna.Trial(self, trial._trial_id)
        for name, value in self.worker.items():
            started.set_user_attr(name, value)
        return started

    def _take(self, trial: FrozenTrial) -> bool:
        # first of all a sign of life: a worker may be killed at any moment, and a trial without one would never be stale
        self.storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        try:
            return self.storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def work(self, objective: Callable[[optuna.Trial], float], n_trials: int | None = None) -> None:
        """
        Run trials until none is left.

        :param objective: of a trial
        :param n_trials: at most so many
        :raises BaseException: what the objective raises, other than ``TrialPruned``. The trial goes back to the queue: always
            after an interruption, otherwise as often as that of a dead worker
        """
        failures: list[BaseException] = []

        def remember(trial: optuna.Trial) -> float:
            try:
                return objective(trial)
            except optuna.TrialPruned:
                raise
            except BaseException as error:
                # if the trial was taken over, Optuna fails to store the failure and raises that instead
                failures.append(error)
                raise

        done = 0
        while n_trials is None or done < n_trials:
            failures.clear()
            try:
                self.optimize(remember, n_trials=1, gc_after_trial=True)
            except SweepOver:
                return
            except BaseException as error:
                self._give_up(failures[0] if failures else error, is_of_objective=bool(failures))
            done += 1

    def _give_up(self, error: BaseException, is_of_objective: bool) -> None:
        """
        :param error: that has ended the trial in hand; raised unless it only says that others have the trial
        :param is_of_objective: whether the objective has raised it
        """
        # an interrupted look at the storage may have locked it
        self.storage.remove_session()
        if self.in_hand is None:
            raise error
        number = self.in_hand.number
        if not self._was_taken_over(number):
            self._put_back(number, was_interrupted=isinstance(error, KeyboardInterrupt))
            raise error
        # what a report raises, or what Optuna does when it cannot store the final value: ValueError, AssertionError
        if not isinstance(error, UpdateFinishedTrialError if is_of_objective else Exception):
            raise error
        print(f"Trial {number} was taken for dead and given to another worker: its result is dropped.")

    def _was_taken_over(self, number: int) -> bool:
        with experimental():
            retry_history = RetryHeartbeatStaleTrialCallback.retry_history
            return any(number in retry_history(trial) for trial in self.get_trials(deepcopy=False))

    def _put_back(self, number: int, was_interrupted: bool) -> None:
        if self.get_trials(deepcopy=False)[number].state == TrialState.RUNNING:
            self.tell(number, state=TrialState.FAIL)
        trial = self.get_trials()[number]
        if trial.state != TrialState.FAIL:
            return
        if was_interrupted:
            # nobody died: not counted as a retry
            names = ("params", "distributions", "user_attrs", "system_attrs")
            again = {name: getattr(trial, name) for name in names}
            self.add_trial(optuna.create_trial(state=TrialState.WAITING, **again))
        else:
            retry_callback()(self, trial)


def begin_or_join(storage: BaseStorage, name: str, settings: dict[str, Any]) -> optuna.Study:
    """
    Begin a study and queue its trials, or join one with the same settings. Of any number of processes that call this at the
    same moment, the one whose study the storage accepts begins it, and the others wait until it has.

    :param storage: an open one
    :param name: of the study
    :param settings: what all workers must agree on, of JSON's types; ``max_total_trials`` and ``seed`` are among them
    :return: the study
    :raises ValueError: if there is a study of this name with other settings, or of another program
    """
    # as the storage will give them back: JSON knows no tuples
    settings = json.loads(json.dumps(settings))
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    except DuplicatedStudyError:
        study = load_study(storage, name)
        _check_same(name, _wait_for_settings(study), settings)
        return study
    queue_trials(study, settings["seed"], settings["max_total_trials"])
    study.set_user_attr(SETTINGS, settings)
    return study


def queue_trials(study: optuna.Study, seed: int, n_trials: int) -> None:
    """
    :param study: to which trials are added
    :param seed: of the study
    :param n_trials: how many
    """
    begun = len(study.get_trials(deepcopy=False))
    for number in range(begun, begun + n_trials):
        study.enqueue_trial({}, user_attrs={"seed": trial_seed(seed, number)})


def _wait_for_settings(study: optuna.Study) -> dict[str, Any]:
    n_trials, since = -1, time.monotonic()
    while SETTINGS not in study.user_attrs:
        if study.direction != StudyDirection.MAXIMIZE:
            break
        if (n_queued := len(study.get_trials(deepcopy=False))) > n_trials:
            n_trials, since = n_queued, time.monotonic()
        if time.monotonic() - since > BEGINNING_TIMEOUT:
            break
        time.sleep(0.1)
    if SETTINGS not in study.user_attrs:
        raise ValueError(
            f"--study-name {study.study_name}: there is a study of this name that `sweep` has not begun, or not to its end "
            f"(direction: {study.direction.name.lower()}). Use another name."
        )
    return study.user_attrs[SETTINGS]


def _check_same(name: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    differences = [
        f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} here"
        for key in sorted({*theirs, *ours})
        if theirs.get(key) != ours.get(key)
    ]
    if differences:
        raise ValueError(
            f"--study-name {name} was begun with other settings: {'; '.join(differences)}. Repeat its command to join it, or "
            "use another name."
        )


def count_states(study: optuna.Study) -> Counter[TrialState]:
    """
    :param study: of Optuna
    :return: how many of its trials are in each state
    """
    return Counter(trial.state for trial in study.get_trials(deepcopy=False))


def best_trial(study: optuna.Study) -> FrozenTrial:
    """
    :param study: with a complete trial
    :return: the best of the complete ones, of equal ones the first: a database gives Optuna any of them
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    # max takes the first, and they are sorted by their numbers
    return max(complete, key=lambda trial: trial.values[0])


def describe(study: optuna.Study) -> str:
    """
    :param study: of Optuna
    :return: what has come out so far, in a few lines
    """
    states = count_states(study)
    counts = ", ".join(f"{states[state]} {state.name.lower()}" for state in TrialState if states[state])
    lines = [f"Study {study.study_name}: {counts or 'no trials'}."]
    if states[TrialState.COMPLETE]:
        best = best_trial(study)
        lines.append(f"Best: trial {best.number}, value {best.value!r}, seed {best.user_attrs.get('seed')}.")
    else:
        failures = Counter(trial.user_attrs["failure"] for trial in study.trials if "failure" in trial.user_attrs)
        lines.append("No trial was completed.")
        lines += [f"{count} failed: {failure}" for failure, count in failures.most_common(3)]
    return "\n".join(lines)
