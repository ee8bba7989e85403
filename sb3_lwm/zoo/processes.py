"""Interruptions of a command, which interrupts the processes that it has started."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# The number of seconds that an interrupted process may take: saving a replay of 7 GB to a slow disk takes minutes
GRACE = 600.0


def handle_interruptions(handler: Callable[[int, Any], Any]) -> None:
    """
    :param handler: The handler of Ctrl-C, of the SIGTERM that ends a job of a cluster, and of the SIGHUP of a closed
        terminal, unless ``nohup`` ignores it. Windows has no SIGHUP.
    """
    # the handler of SIGINT is always set, since processes that a shell starts in the background ignore this signal
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
            signal.signal(number, handler)


def stop(processes: Mapping[str, "subprocess.Popen[Any]"], interruptions: Sequence[int], say: Callable[[str], Any]) -> None:
    """
    Interrupt processes and wait for their ends; kill those that take too long, or all of them after a further interruption.

    On Windows, which has no sessions, the console sends a Ctrl-C to the processes as well as to this one.

    :param processes: The processes by name, each the leader of its own session; ended ones are ignored
    :param interruptions: The signals so far, to which a handler appends
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
                # the whole session, with the processes of --vec-env subproc
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            say(f"Killed {name}.")
