# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL server of a test's own, on a free loopback port and a Unix socket, in a folder that goes with it.

`with postgres() as server:` takes about a second. PostgreSQL comes from the system's packages and is installed when it
is missing and that is allowed. It refuses to run as root, so root runs it as the user that the package made.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List

import packages
from child import Child, ChildFailed, free_ports

ADMIN, PASSWORD = "postgres", "adm1n:p@ss/%w"
_DEBIAN = Path("/usr/lib/postgresql")


class NoPostgres(Exception):
    """PostgreSQL is not installed and could not be."""


class Postgres:
    """One server. `dsn` is its superuser's, over TCP with a password; `socket` is the folder of its Unix socket."""

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self.socket = folder
        self.port = free_ports(1)[0]
        self.data = folder / "data"
        self._folder = folder
        self._bin = binaries()
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(folder),
            "fsync": "on" if fsync else "off",
            "max_connections": "40",
            # in its own folder: a server that is killed leaves nothing behind
            "dynamic_shared_memory_type": "mmap",
            "shared_buffers": "32MB",
        }
        self._child: Child | None = None

    @property
    def dsn(self) -> str:
        return self.dsn_of(ADMIN, PASSWORD)

    def dsn_of(self, user: str, password: str, dbname: str = "postgres", *, host: str = "127.0.0.1") -> str:
        quoted = password.replace("\\", "\\\\").replace("'", "\\'")
        return f"host={host} port={self.port} dbname={dbname} user={user} password='{quoted}'"

    @property
    def env(self) -> Dict[str, str]:
        """For PostgreSQL's own clients, over the Unix socket."""
        given = {"PGHOST": str(self.socket), "PGPORT": str(self.port), "PGUSER": ADMIN, "PGPASSWORD": PASSWORD}
        return {**os.environ, **given, "PGDATABASE": "postgres"}

    def program(self, name: str) -> str:
        return str(self._bin / name)

    def sql(self, text: str, dbname: str = "postgres") -> str:
        """What psql prints for `text`, unaligned and without headings."""
        command = [self.program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", dbname, "-c", text]
        done = subprocess.run(command, env=self.env, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"{text}: {done.stderr}")
        return done.stdout.strip()

    # --- its life

    def create(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        _give(self._folder, secret)
        command = [self.program("initdb"), "-D", str(self.data), "-U", ADMIN, "-A", "scram-sha-256", "-E", "UTF8"]
        command += ["--locale=C", f"--pwfile={secret}", "--no-sync", "--no-instructions"]
        done = subprocess.run(
            [*_as_user(), *command], cwd=self._folder, check=False, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise ChildFailed(f"initdb: {done.stdout}{done.stderr}")

    def start(self, **settings: str) -> None:
        """Start it, or start it again; `settings` are added to its configuration and stay."""
        self._settings.update(settings)
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = [*_as_user(), self.program("postgres"), "-D", str(self.data), *options]
        self._child = Child("postgres", command, self._folder, env={"LC_ALL": "C"})
        self._child.wait_ready(self._ready)

    def stop(self) -> None:
        """The way an administrator does it: clients are cut off, the data is written out."""
        if self._child is not None:
            self._child.process.send_signal(signal.SIGINT)
            self._child.process.wait(60)
            self._child = None

    def kill(self) -> None:
        """`kill -9` of the server and of every process it has for its clients, as a power cut would."""
        if self._child is None:
            return
        family = [self._child.process.pid, *self.backends()]
        for pid in family:
            _signal(pid, signal.SIGKILL)
        self._child.kill()
        self._child = None
        for pid in family:  # its memory is free only when all of them are gone
            while Path(f"/proc/{pid}/cmdline").is_file() and _alive(pid):
                time.sleep(0.01)

    def restart(self, **settings: str) -> None:
        self.stop()
        self.start(**settings)

    def hang(self) -> None:
        """Nothing answers any more, and nothing is closed; `kill` ends it."""
        assert self._child is not None
        for pid in (self._child.process.pid, *self.backends()):
            _signal(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._child is not None
        for pid in (self._child.process.pid, *self.backends()):
            _signal(pid, signal.SIGCONT)

    def backends(self) -> List[int]:
        """The processes that the server started."""
        assert self._child is not None
        pid = self._child.process.pid
        try:
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def _ready(self) -> bool:
        command = [self.program("pg_isready"), "-q"]
        return subprocess.run(command, env=self.env, check=False, timeout=10).returncode == 0


@contextmanager
def postgres(*, fsync: bool = True) -> Iterator[Postgres]:
    """A server that runs; without `fsync` it is quicker and forgets in a power cut (not in a crash of its own)."""
    folder = Path(tempfile.mkdtemp(prefix="selfheal-pg-"))
    _give(folder)
    try:
        server = Postgres(folder, fsync=fsync)
        try:
            server.create()
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)


def binaries() -> Path:
    """The folder of initdb, postgres, psql and pgbench: the newest that is installed."""
    return _found() or _installed()


def _installed() -> Path:
    packages.install("postgresql" if shutil.which("apt-get") else "postgresql-server")
    found = _found()
    if found is None:
        raise NoPostgres("Install PostgreSQL 13 or newer (Debian: postgresql, Fedora: postgresql-server)")
    return found


def _found() -> Path | None:
    versions = [path for path in _DEBIAN.glob("*/bin") if (path / "initdb").is_file()]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


def _as_user() -> List[str]:
    """The words before a command of PostgreSQL's. The death signal is set anew: a change of user takes it away."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={ADMIN}", f"--regid={ADMIN}", "--clear-groups", "--pdeathsig", "KILL", "--"]


def _give(*paths: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(ADMIN)
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def main() -> int:
    """Where its programs are, installed now if need be."""
    try:
        print(f"postgresql                  {binaries()}")
    except NoPostgres as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
