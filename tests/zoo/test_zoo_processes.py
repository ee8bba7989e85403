"""Processes that end with the command that has started them, also on Windows as far as Python's names go."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sb3_lwm.zoo import processes

STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
OBEDIENT = """if True:
    import time
    try:
        print('ready', flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


@pytest.fixture
def as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the names that Python does not have on Windows from the module, but not from ``subprocess``, which needs them."""
    for module, names in ((signal, ("SIGHUP", "SIGKILL")), (os, ("killpg",))):
        rest = {name: value for name, value in vars(module).items() if name not in names}
        monkeypatch.setattr(processes, module.__name__, SimpleNamespace(**rest))


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of signals back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(code: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    with process:
        process.kill()


def test_processes_are_interrupted() -> None:
    process, said = start(OBEDIENT), list[str]()
    try:
        processes.stop({"seed 1": process}, [], said.append)
        assert process.returncode == 0 and said == ["Stopping seed 1. Interrupt again to kill."]
        # those that have ended are left alone
        processes.stop({"seed 1": process}, [], said.append)
        assert len(said) == 1
    finally:
        end(process)


def test_processes_that_do_not_stop_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.1)
    process, said = start(STUBBORN), list[str]()
    try:
        processes.stop({"seed 1": process}, [], said.append)
        assert process.returncode == -9
        assert said == ["Stopping seed 1. Interrupt again to kill.", "Killed seed 1."]
    finally:
        end(process)


def test_handlers_respect_nohup(handlers: None) -> None:
    received: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    processes.handle_interruptions(lambda number, _: received.append(number))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(number)
    assert received == [signal.SIGINT, signal.SIGTERM]


def test_windows_has_handlers_of_two_signals(handlers: None, as_on_windows: None) -> None:
    received: list[int] = []
    processes.handle_interruptions(lambda number, _: received.append(number))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.raise_signal(number)
    assert received == [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize(("interruptions", "said"), [([], 1), ([signal.SIGINT], 2)])
def test_windows_ends_processes_without_sessions(
    interruptions: list[int], said: int, monkeypatch: pytest.MonkeyPatch, as_on_windows: None
) -> None:
    # after a Ctrl-C, which the console sends to the process too, it has its time; else it is terminated at once
    monkeypatch.setattr(processes, "GRACE", 60.0 if not interruptions else 0.1)
    process, lines = start(STUBBORN), list[str]()
    try:
        processes.stop({"seed 1": process}, interruptions, lines.append)
        assert process.returncode in (-9, -15) and len(lines) == said
    finally:
        end(process)
