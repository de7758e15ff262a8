# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `helm` program: how it is found, told where the cluster is, run within bounds, and understood.

No token, password or value is ever among its arguments, which every user of the machine can read: the token goes
through the environment, values through its standard input, and what is neither through a file for us alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..._errors import OptionError, PlaceError
from ..kube.connection import settled
from ..process import answered
from .errors import refused

_GRACE = 60.0  # seconds that helm has beyond its own time-out, for hooks and for the API server
_MOST = 256  # revisions that helm tells
_STEERED = ("HELM_KUBE", "HELM_NAMESPACE", "HELM_DEBUG")  # what would lead helm elsewhere than the options say


@dataclass(frozen=True)
class Way:
    """How helm reaches the cluster; `environ` may hold a token."""

    flags: Tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Chart:
    """What `helm upgrade` installs: `ref` is a path, `repository/chart` or a URL; `values` are the user's own."""

    ref: str
    version: str = ""
    values: str = field(default="", repr=False)  # JSON
    files: Tuple[str, ...] = ()
    reuse: bool = False


@dataclass(frozen=True)
class Pace:
    """`timeout` in seconds for each change, `wait` until everything is ready, `keep` revisions (0: all)."""

    timeout: float = 300.0
    wait: bool = True
    keep: int = 10


class Helm:
    """helm, for one Helm release in one namespace. `hidden` are values that no message may hold."""

    def __init__(
        self,
        binary: str,
        way: Way,
        name: str,
        namespace: str,
        *,
        pace: Pace,
        patience: float = 60.0,
        hidden: Sequence[str] = (),
    ) -> None:
        self._binary, self._way, self._name, self._namespace = binary, way, name, namespace
        self._pace, self._patience, self._hidden = pace, patience, tuple(hidden)

    def history(self) -> List[Dict[str, Any]]:
        """What helm tells of each revision, oldest first."""
        told = self._run(
            ["history", self._name, "--output", "json", "--max", str(_MOST)], "the history", self._patience
        )
        try:
            rows: List[Dict[str, Any]] = json.loads(told)
        except ValueError:
            raise PlaceError(f"what {self._binary} printed is no history", mend="Check that it is helm 3") from None
        return rows

    def manifest(self, revision: int) -> str:
        """The objects of a revision; they may hold secrets, so they are for comparing only."""
        return self._run(["get", "manifest", self._name, "--revision", str(revision)], "reading", self._patience)

    def upgrade(self, chart: Chart, labels: Mapping[str, str], *, keep: int, dry: bool = False) -> None:
        """Install the chart or upgrade to it; `labels` go to the new revision, and `null` removes one."""
        words = ["upgrade", "--install", self._name, chart.ref, "--output", "json", *self._bounds(keep)]
        words += ["--labels", ",".join(f"{key}={value}" for key, value in labels.items())] if labels else []
        words += ["--version", chart.version] if chart.version else []
        words += ["--reuse-values"] if chart.reuse else ["--reset-values"]
        for file in chart.files:
            words += ["--values", '"' + file.replace('"', '""') + '"']  # helm reads the flag as a line of CSV
        words += ["--values", "-"] if chart.values else []
        words += ["--dry-run=server"] if dry else []
        self._run(words, "the upgrade", self._pace.timeout + _GRACE, chart.values)

    def rollback(self, revision: int, *, keep: int, wait: bool = True) -> None:
        """Go back to `revision`, which makes a new one."""
        words = ["rollback", self._name, str(revision), *self._bounds(keep, wait=wait)]
        self._run(words, f"going back to revision {revision}", self._pace.timeout + _GRACE)

    def _bounds(self, keep: int, *, wait: bool = True) -> List[str]:
        # only its debug lines say what helm waits for
        waits = ["--wait", "--debug"] if wait and self._pace.wait else []
        return ["--timeout", f"{max(1, round(self._pace.timeout))}s", "--history-max", str(keep), *waits]

    def _run(self, words: Sequence[str], doing: str, seconds: float, stdin: str = "") -> str:
        """What helm prints; PlaceError where it fails, or does not end within `seconds`."""
        doing = f"{doing} of helm release {self._name} in namespace {self._namespace}"
        command = [self._binary, *words, "--namespace", self._namespace, *self._way.flags]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_STEERED)}
        try:
            done = answered(command, env={**kept, **self._way.environ}, seconds=seconds, said=stdin)
        except subprocess.TimeoutExpired:
            raise PlaceError(
                f"{doing} did not end within {seconds:.0f} s, and helm was ended",
                mend="Check the API server and the chart's hooks; helm status shows the state it left",
            ) from None
        except OSError as problem:
            raise PlaceError(f"{self._binary} cannot be run: {problem.strerror}", mend="Check binary_path") from None
        if done.returncode < 0:
            raise PlaceError(
                f"{doing} was ended by signal {-done.returncode}", mend="See helm status for the state it left"
            )
        if done.returncode:
            raise refused(done.stderr, doing, hidden=self._hidden)
        return done.stdout


def binary_of(path: str) -> str:
    """The helm to run: `path`, or the one on the PATH."""
    found = shutil.which(path or "helm")
    if found is None:
        what = f"{path} is not a program" if path else "helm is not on the PATH"
        raise OptionError(f"{what} where this task runs", mend="Install helm 3.13 or newer, or set binary_path")
    return found


@contextmanager
def way_of(params: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Way]:
    """The connection's options in helm's words; a kubeconfig that helm needs is there until the end."""
    options = settled(params, environ)
    config = _config(options)
    if config is None:
        yield Way(tuple(_flags(options, options["kubeconfig"])), _environ(options))
        return
    with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig", encoding="utf-8") as file:  # for us alone: 0600
        json.dump(config, file)
        file.flush()
        yield Way(tuple(_flags(options, file.name)), _environ(options))


def _config(options: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """A kubeconfig for what helm has no flag for; None where it needs none of ours."""
    if isinstance(options["kubeconfig"], Mapping):
        given: Optional[Dict[str, Any]] = dict(options["kubeconfig"])
    else:
        given = None
    flagless = {
        "client-certificate": options["client_cert"],
        "client-key": options["client_key"],
        "username": options["username"],
        "password": options["password"],
    }
    user = {key: value for key, value in flagless.items() if value}
    if not user:
        return given
    if options["kubeconfig"] or options["context"] or not options["host"]:
        raise OptionError(
            "helm takes client_cert, client_key, username and password only together with host, without kubeconfig",
            mend="Put them into the kubeconfig",
        )
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "host", "cluster": {"server": options["host"]}}],
        "users": [{"name": "host", "user": user}],
        "contexts": [{"name": "host", "context": {"cluster": "host", "user": "host"}}],
        "current-context": "host",
    }


def _flags(options: Mapping[str, Any], kubeconfig: Optional[str]) -> Iterator[str]:
    checked = options["validate_certs"] is not False
    named = (
        ("--kubeconfig", os.path.expanduser(str(kubeconfig)) if kubeconfig else None),
        ("--kube-context", options["context"]),
        ("--kube-apiserver", options["host"]),
        ("--kube-ca-file", options["ca_cert"] if checked else None),
        ("--kube-as-user", options["impersonate_user"]),
        *(("--kube-as-group", group) for group in options["impersonate_groups"] or ()),
    )
    for flag, value in named:
        if value:
            yield from (flag, str(value))
    if not checked:
        yield "--kube-insecure-skip-tls-verify"


def _environ(options: Mapping[str, Any]) -> Dict[str, str]:
    alone = options["host"] and not options["kubeconfig"] and not options["context"]
    told = {
        # another cluster's credentials are not for this host
        "KUBECONFIG": os.devnull if alone and _config(options) is None else None,
        "HELM_KUBETOKEN": options["api_key"],
        "HTTPS_PROXY": options["proxy"],
        "NO_PROXY": options["no_proxy"],
    }
    return {key: str(value) for key, value in told.items() if value}
