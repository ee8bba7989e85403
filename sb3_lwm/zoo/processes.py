"""Interrupts the processes that a command has started when it is interrupted itself."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# The time in seconds that an interrupted process may take: a replay of 7 GB goes to a slow disk in minutes
GRACE = 600.0


def handle_interruptions(handler: Callable[[int, Any], Any]) -> None:
    """
    :param handler: The handler of Ctrl-C, of the SIGTERM that ends a job of a cluster, and of the SIGHUP of a terminal that
        is closed, unless ``nohup`` ignores it. Windows has no SIGHUP.
    """
    # A shell lets the processes that it starts in the background, and their children, ignore SIGINT: it is set in any case.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
            signal.signal(number, handler)


def stop(processes: Mapping[str, "subprocess.Popen[Any]"], interruptions: Sequence[int], say: Callable[[str], Any]) -> None:
    """
    Interrupt processes and wait for them; kill those that take too long, or all of them when interrupted again.

    On Windows, which has no sessions, the console sends a Ctrl-C to the processes as well as to this one.

    :param processes: The processes by name, leaders of sessions of their own; those that have ended are left alone
    :param interruptions: The signals so far, to which a handler adds
    :param say: The function that prints a line
    """
    running = {name: process for name, process in processes.items() if process.poll() is None}
    if not running:
        return
    say(f"Stopping {', '.join(running)}. Interrupt again to kill.")
    for process in running.values():
        if hasattr(os, "killpg"):
            process.send_signal(signal.SIGINT)
        elif not interruptions:
            process.terminate()
    deadline = time.monotonic() + GRACE
    n_interruptions = len(interruptions)
    while any(process.poll() is None for process in running.values()):
        if time.monotonic() > deadline or len(interruptions) > n_interruptions:
            break
        time.sleep(0.1)
    for name, process in running.items():
        if process.poll() is None:
            if hasattr(os, "killpg"):
                # the session, and with it the processes of --vec-env subproc
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            say(f"Killed {name}.")
