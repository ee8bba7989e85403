"""Processes that a command starts, and ends with itself."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# How long an interrupted process may take, in seconds: a replay of 7 GB goes to a slow disk in minutes
GRACE = 600.0


def handle_interruptions(handler: Callable[[int, Any], Any]) -> None:
    """
    :param handler: of Ctrl-C, of the SIGTERM that ends a job of a cluster, and of the SIGHUP of a terminal that is closed,
        unless ``nohup`` has said to ignore it
    """
    # A shell lets what it starts in the background ignore SIGINT, and the children with it: it is set anew, too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def stop(processes: Mapping[str, "subprocess.Popen[Any]"], interruptions: Sequence[int], say: Callable[[str], Any]) -> None:
    """
    Interrupt processes and wait for them; kill those that take too long, or all of them when interrupted again.

    :param processes: by name, leaders of sessions of their own; those that have ended are left alone
    :param interruptions: the signals so far, to which a handler adds
    :param say: prints a line
    """
    running = {name: process for name, process in processes.items() if process.poll() is None}
    if not running:
        return
    say(f"Stopping {', '.join(running)}. Interrupt again to kill.")
    for process in running.values():
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE
    n_interruptions = len(interruptions)
    while any(process.poll() is None for process in running.values()):
        if time.monotonic() > deadline or len(interruptions) > n_interruptions:
            break
        time.sleep(0.1)
    for name, process in running.items():
        if process.poll() is None:
            # the session, and with it the processes of --vec-env subproc
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            say(f"Killed {name}.")
