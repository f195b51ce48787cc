"""A real Postgres server for Dagster's storage, from the system's package, that a test may stop and start."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

USERS = ("postgres", "nobody")
"""Root may not run a server; one of these does it then."""


def _program(name: str) -> str | None:
    """Debian keeps the server's programs out of the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(installed[-1]) if installed else None)


HAS_DRIVER = importlib.util.find_spec("dagster_postgres") is not None
needs_postgres = pytest.mark.skipif(
    not HAS_DRIVER or None in (_program("initdb"), _program("pg_ctl")),
    reason="no Postgres server (apt-get install postgresql), or no dagster-postgres",
)


class PostgresServer:
    """A server in a folder, reached by a socket there; its database is `postgres`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.user = folder, _owner(folder)
        self._run("initdb", "--auth=trust", "--username=rallrec", "--no-sync", "--encoding=UTF8")

    @property
    def url(self) -> str:
        """What RALLREC_POSTGRES_URL holds."""
        return f"postgresql+psycopg2://rallrec@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self._run("pg_ctl", "--wait", f"--options={options}", f"--log={self.folder / 'log'}", "start")

    def stop(self) -> None:
        """Stop it at once, as if its machine had lost power; without effect where it does not run."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "--wait", "--mode=immediate", "stop")

    def _run(self, name: str, *arguments: str) -> None:
        program = _program(name)
        assert program is not None
        command = [program, "--pgdata", str(self.folder / "data"), *arguments]
        # The server keeps what it is given: with a pipe nobody would see the end of it.
        with (self.folder / f"{name}.out").open("ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, user=self.user, cwd=self.folder, timeout=120)
        assert done.returncode == 0, (self.folder / f"{name}.out").read_text(encoding="utf-8")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server that runs; nothing of it is left at the end."""
    with TemporaryDirectory(prefix="rallrec-pg-") as name:  # a socket needs a short path
        server = PostgresServer(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _owner(folder: Path) -> str | None:
    """Whom the server runs as, who then owns the folder; None: as whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name for user in pwd.getpwall()}
    user = next(name for name in USERS if name in known)
    shutil.chown(folder, user)
    folder.chmod(0o755)
    return user
