"""The callback that writes training states."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_lwm.training_state.files import find_states, remove_leftovers
from sb3_lwm.training_state.locking import lock_folder

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStateCallback(BaseCallback):
    """
    Saves the whole state of a training of :class:`~sb3_lwm.LWMDQN` at regular intervals, so that
    :meth:`LWMDQN.load_training_state` can continue the training to the last bit, however it was stopped.

    On Ctrl-C and SIGTERM it also saves a state, between two updates, and then ends the training by a ``KeyboardInterrupt``
    or by ``SystemExit`` (code 143); a second Ctrl-C ends it at once. If the disk is full, it gives a warning and the
    training continues.

    :param folder: The folder of the states, ``state_<steps>`` each, of this training alone; None saves no states (the Zoo
        fills in ``states`` in the folder of the run)
    :param every_minutes: The number of minutes between two states; None saves no states by time
    :param every_steps: The number of steps of all environments between two states; None saves no states by steps
    :param keep_last: The number of states to keep; files that are the same in two states are stored once
    :param on_signals: Whether to save a state on Ctrl-C and SIGTERM; in the main thread only
    :param verbose: The verbosity level: 1 prints a line for each state
    :raises ValueError: If a number is not positive; when the training starts, if the folder holds the states of another
        training, or a running training saves its states there
    """

    # an LWMDQN, which holds the TrainingStates
    model: Any

    def __init__(
        self,
        folder: str | Path | None = None,
        every_minutes: float | None = 10.0,
        every_steps: int | None = None,
        keep_last: int = 2,
        on_signals: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        for name, value in (("every_minutes", every_minutes), ("every_steps", every_steps), ("keep_last", keep_last)):
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value}: it must be greater than 0.")
        self.folder = None if folder is None else Path(folder)
        self.every_minutes = every_minutes
        self.every_steps = every_steps
        self.keep_last = keep_last
        self.on_signals = on_signals
        self._received: signal.Signals | None = None
        self._last_time = 0.0
        self._last_steps = 0

    def _on_step(self) -> bool:
        return True

    def _on_training_start(self) -> None:
        if self.folder is None:
            return
        if not hasattr(self.model, "save_training_state"):
            raise ValueError(f"TrainingStateCallback saves LWMDQN, not {type(self.model).__name__}: use CheckpointCallback.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model.training_states.at_end_of_learning(lock_folder(self.folder).release)
        self._check_folder(self.folder)
        remove_leftovers(self.folder)
        self._received = None
        self._last_time, self._last_steps = time.monotonic(), self.model.num_timesteps
        self.model.training_states.at_safe_points(self.on_safe_point, self.on_failure)
        if self.on_signals and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                previous = signal.signal(number, self._receive)
                self.model.training_states.at_end_of_learning(signal.signal, number, previous)

    def _check_folder(self, folder: Path) -> None:
        last = self.model.last_training_state
        states = find_states(folder)
        is_own = last is not None and last.parent.resolve() == folder.resolve()
        if states and not (is_own and last is not None and self.model.num_timesteps >= int(last.name.split("_")[1])):
            raise ValueError(
                f"{folder} holds the states of another training, {states[0].name} is the newest: continue that training, "
                f"LWMDQN.load_training_state({str(folder)!r}, env), or give another folder, or remove this one."
            )

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        print(f"{self._received.name}: the training stops once its state is saved. A second Ctrl-C stops it at once.")

    def on_safe_point(self) -> None:
        """
        Save a state if one is due. The agent calls this where its state is complete: between an update and the next
        rollout, and between the updates of the pretraining.

        :raises KeyboardInterrupt: After a Ctrl-C
        :raises SystemExit: After a SIGTERM
        """
        if self._received is not None:
            self._save()
            if self._received is signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + self._received)
        if self._is_due():
            self._save()

    def on_failure(self) -> None:
        """Save a state with the rows of a rollout that an exception, probably of an environment, has ended."""
        self._save()

    def _is_due(self) -> bool:
        steps, every = self.model.num_timesteps, self.every_steps
        if every is not None and steps // every > self._last_steps // every:
            return True
        return self.every_minutes is not None and time.monotonic() - self._last_time >= 60.0 * self.every_minutes

    def _save(self) -> None:
        assert self.folder is not None
        started = time.monotonic()
        path = self.model.save_training_state(self.folder, self.keep_last)
        self._last_time, self._last_steps = time.monotonic(), self.model.num_timesteps
        if self.verbose > 0 and path is not None:
            print(f"Saved {path} in {self._last_time - started:.1f} s")
