"""The callback that saves training states: at intervals and on signals, in a folder of its own."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import SHORT, changed, make_labyrinths, weights
from resume_helpers import assert_same_training, close_log, continue_training, train
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lwm import LWMDQN, TrainingStateCallback
from sb3_lwm.common.optimizers import optimizer_step


class At(BaseCallback):
    """
    Calls a function at a step.

    :param step: The number of steps of all environments
    :param action: The function to call
    """

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        super().__init__()
        self.step = step
        self.action = action

    def _on_step(self) -> bool:
        if self.model.num_timesteps == self.step:
            self.action()
        return True


def make_model(**kwargs: Any) -> LWMDQN:
    return LWMDQN("MlpPolicy", make_labyrinths(4), seed=0, **{**SHORT, **kwargs})


def press(number: int) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


# --- Signals ---


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_signal_saves_and_stops(number: int, ending: type[BaseException], tmp_path: Path) -> None:
    handlers = [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)]
    states = TrainingStateCallback(tmp_path / "states", verbose=1)
    model = make_model()
    with pytest.raises(ending) as raised:
        model.learn(400, [states, At(132, press(number))])
    assert ending is KeyboardInterrupt or raised.value.code == 143  # type: ignore[attr-defined]
    assert [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)] == handlers
    # the end of the rollout and its update
    assert model.last_training_state == tmp_path / "states" / "state_144"
    resumed = LWMDQN.load_training_state(tmp_path, make_labyrinths(4), device="cpu")
    continue_training(resumed)
    unbroken = make_model().learn(400)
    assert resumed.num_timesteps == 400 and not changed(weights(unbroken.policy), weights(resumed.policy))


def test_signal_during_the_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = make_model().learn(200)
    model = make_model()

    def interrupt(*args: Any) -> None:
        if int(model.policy.world_model.n_updates) == 1:  # type: ignore[union-attr]
            signal.raise_signal(signal.SIGTERM)
        optimizer_step(*args)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("sb3_lwm.world_model.trainer.optimizer_step", interrupt)
        model.learn(200, TrainingStateCallback(tmp_path / "states"))
    resumed = LWMDQN.load_training_state(tmp_path, make_labyrinths(4), device="cpu")
    world_model = resumed.policy.world_model
    assert world_model is not None and int(world_model.n_updates) == 2 and resumed._collected_rollout == 16
    resumed.learn(resumed.remaining_timesteps, reset_num_timesteps=False)
    # neither of them has a callback that the other lacks
    assert_same_training(unbroken, resumed, tmp_path / "ends")


def test_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    model = make_model()
    # what runs in the background of a shell begins with another handler
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.learn(400, [TrainingStateCallback(tmp_path / "states"), At(132, twice)])
    assert model.num_timesteps == 132 and list((tmp_path / "states").iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_another_thread_receives_no_signals(tmp_path: Path) -> None:
    model = make_model()
    callback = TrainingStateCallback(tmp_path / "states", every_minutes=None, every_steps=64)
    thread = threading.Thread(target=model.learn, args=(100, callback))
    thread.start()
    thread.join()
    assert model.last_training_state is not None


# --- The callback ---


def test_states_at_intervals_in_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 10_000.0, 10.0))
    monkeypatch.setattr("sb3_lwm.training_state.callback.time.monotonic", lambda: next(clock))
    callback = TrainingStateCallback(tmp_path, every_minutes=0.8, keep_last=3)
    make_model().learn(200, callback)
    assert len(list(tmp_path.iterdir())) == 3


def test_folder_with_states_of_another_training_is_refused(tmp_path: Path) -> None:
    def callback() -> TrainingStateCallback:
        return TrainingStateCallback(tmp_path, every_minutes=None, every_steps=64)

    model = make_model().learn(100, callback())
    for other, keep in ((make_model(), False), (model, True)):
        with pytest.raises(ValueError, match=r"holds the states of another training, state_64 is the newest: continue that"):
            other.learn(100, callback(), reset_num_timesteps=keep)
    resumed = LWMDQN.load_training_state(tmp_path, make_labyrinths(4), device="cpu")
    resumed.learn(100, callback(), reset_num_timesteps=False)


def test_folder_of_a_running_training_is_refused(tmp_path: Path) -> None:
    """Another process would cut its logs and remove its states."""
    model = train(make_model(), tmp_path, 200)
    code = "import sys, filelock as f; lock = f.FileLock(sys.argv[1]); lock.acquire(); print('', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / ".states.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "\n"
        before = (tmp_path / "progress.csv").read_bytes()
        with pytest.raises(ValueError, match="states is in use: a training that is still running"):
            LWMDQN.load_training_state(tmp_path, make_labyrinths(4))
        with pytest.raises(ValueError, match="states is in use: a training that is still running"):
            model.learn(10, TrainingStateCallback(tmp_path / "states"), reset_num_timesteps=False)
        assert (tmp_path / "progress.csv").read_bytes() == before
        # as when its machine is lost
        other.kill()
    close_log(LWMDQN.load_training_state(tmp_path, make_labyrinths(4)))


@pytest.mark.parametrize("arguments", [{"every_minutes": 0}, {"every_steps": -1}, {"keep_last": 0}])
def test_numbers_that_are_not_positive_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be greater than 0"):
        TrainingStateCallback("states", **arguments)


def test_no_folder_writes_no_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_model().learn(100, TrainingStateCallback(every_steps=10))
    assert model.last_training_state is None and list(tmp_path.iterdir()) == []
