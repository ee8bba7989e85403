"""A PostgreSQL server in a temporary folder, of the version that is installed."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def server_programs() -> Path | None:
    """:return: The folder of ``initdb`` and ``pg_ctl``, None if PostgreSQL is not installed"""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    # Debian keeps them off the PATH
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def postgresql() -> Iterator[str]:
    """
    Start an empty server, and stop it.

    :return: The URL of its database
    """
    programs = server_programs()
    assert programs is not None
    # the server refuses to run as root
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    prefix = ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # pytest's folders are closed to other users
    folder = Path(tempfile.mkdtemp(prefix="sb3_lwm_postgresql_"))
    if prefix:
        shutil.chown(folder, user)
    data = folder / "data"
    server = [*prefix, programs / "pg_ctl", "-D", data, "-w", "-t", "30"]
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"

    def run(*command: str | Path) -> None:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60)

    try:
        run(*prefix, programs / "initdb", "-D", data, "-U", user, "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8")
        run(*server, "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
        finally:
            run(*server, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
