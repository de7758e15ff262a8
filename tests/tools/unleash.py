# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Unleash of a test's own with its PostgreSQL: `with unleash() as server:`, on free loopback ports, in 6 s."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

import requests
from child import Child, free_ports
from npm_tool import node, npm_tool
from postgres import Postgres, postgres

PROJECT, ENVIRONMENT = "default", "development"  # of every new Unleash; it also has the environment production
_USER = "unleash"


class Unleash:
    """One server. `admin`, `client` and `frontend` are its tokens; the latter two are of `ENVIRONMENT`."""

    def __init__(self, database: Postgres, folder: Path) -> None:
        self.database = database
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.admin = f"*:*.{secrets.token_hex(20)}"
        self.client = f"{PROJECT}:{ENVIRONMENT}.{secrets.token_hex(20)}"
        self.frontend = f"{PROJECT}:{ENVIRONMENT}.{secrets.token_hex(20)}"
        self._password = secrets.token_hex(10)
        self._folder = folder
        self._child: Child | None = None

    @property
    def tokens(self) -> List[str]:
        return [self.admin, self.client, self.frontend]

    def start(self) -> None:
        self.database.sql(f"create user {_USER} password '{self._password}'")
        self.database.sql(f"create database {_USER} owner {_USER}")
        installed = npm_tool("unleash")
        command = [node(installed), installed / "node_modules/unleash-server/dist/server.js"]
        self._child = Child("unleash", command, self._folder, env=self._env())
        self._child.wait_ready(self._ready, timeout=180)

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def call(self, method: str, path: str, body: object = None, token: str = "") -> requests.Response:
        """One call of its API, as it answers: `path` is such as /api/admin/projects."""
        headers = {"Authorization": token or self.admin}
        return requests.request(method, self.url + path, json=body, headers=headers, timeout=30)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What the admin API answers; an error of its is one here."""
        answer = self.call(method, f"/api/admin/{path}", body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    # --- what tests need of flags

    def create(self, flag: str, *, project: str = PROJECT, strategies: List[Mapping[str, object]] | None = None) -> str:
        """A new flag, off everywhere, with its strategies in `ENVIRONMENT`; its name."""
        self.ask("POST", f"projects/{project}/features", {"name": flag, "type": "kill-switch"})
        for strategy in strategies or []:
            self.ask("POST", f"projects/{project}/features/{flag}/environments/{ENVIRONMENT}/strategies", strategy)
        return flag

    def switch(self, flag: str, state: str, environment: str = ENVIRONMENT) -> None:
        self.ask("POST", f"projects/{PROJECT}/features/{flag}/environments/{environment}/{state}")

    def events(self, flag: str, kind: str) -> List[Dict[str, Any]]:
        """The audit log of a flag: its events of a kind such as feature-environment-disabled."""
        found = self.ask("GET", f"search/events?feature=IS:{flag}&limit=100")["events"]
        return [event for event in found if event["type"] == kind]

    def _env(self) -> Dict[str, str]:
        address = f"127.0.0.1:{self.database.port}"
        return {
            "TZ": "UTC",
            "NODE_ENV": "production",
            "DATABASE_URL": f"postgres://{_USER}:{self._password}@{address}/{_USER}",
            "DATABASE_SSL": "false",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": self.url.rpartition(":")[2],
            "INIT_ADMIN_API_TOKENS": self.admin,
            "INIT_BACKEND_API_TOKENS": self.client,
            "INIT_FRONTEND_API_TOKENS": self.frontend,
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "LOG_LEVEL": "warn",
        }

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def unleash() -> Iterator[Unleash]:
    """A server that runs, with a database that goes with it."""
    npm_tool("unleash")  # told before anything is started
    folder = Path(tempfile.mkdtemp(prefix="selfheal-unleash-"))
    try:
        with postgres(fsync=False) as database:
            server = Unleash(database, folder)
            try:
                server.start()
                yield server
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def sdk(server: Unleash, folder: Path) -> Iterator[Any]:
    """Unleash's own SDK, which fetches the definitions every second and keeps them in `folder`: an UnleashClient."""
    client = import_module("UnleashClient").UnleashClient(  # not every environment of the matrix has it
        url=f"{server.url}/api",
        app_name="shop",
        custom_headers={"Authorization": server.client},
        refresh_interval=1,
        disable_metrics=True,
        cache_directory=str(folder),
    )
    client.initialize_client()
    try:
        yield client
    finally:
        client.destroy()
