# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain JSON to and from a Kubernetes API server, over urllib3's connections.

Where the kubernetes library has loaded the configuration, it holds the connections, too. Its typed models are left out,
because they make a task a quarter slower and drop fields that they do not know. Reading is tried again until
`request_timeout`; a change is only sent again when the server said, or its port showed, that nothing was done.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, List, Mapping, NoReturn, Optional, Tuple
from urllib.parse import urlencode

from ..._errors import PlaceError
from .connection import Access
from .kubeconfig import PlainConfiguration

Object = Dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"

_PAGE = 500
_CONNECT = 5.0  # seconds to a connection
_BUSY = (429, 500, 502, 503, 504)
_PAUSE = 0.1  # seconds before the second try; twice as long before each one after it, up to _LONGEST
_LONGEST = 1.0


class NotFound(PlaceError):
    """There is no such object, or no such kind of object, in this cluster."""


class Conflict(PlaceError):
    """Somebody changed the object since it was read; nothing was overwritten."""


class Forbidden(PlaceError):
    """RBAC does not let us; the message names verb, resource and namespace."""


class Lost(PlaceError):
    """The connection broke before the answer: the change may or may not have been done."""


class Gone(PlaceError):
    """The resourceVersion is too old to watch from: read again."""


class Api:
    """One cluster. `requests` counts what was sent, `date` is the newest answer's; `accept` can ask for objects without
    their content; `clock` and `sleep` come in for tests."""

    def __init__(
        self,
        access: Access,
        *,
        accept: str = JSON,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.access = access
        self.requests, self.date = 0, ""
        self._accept, self._clock, self._sleep = accept, clock, sleep
        self._pool = _pool(access.configuration)

    def get(self, path: str) -> Object:
        """One object; NotFound when there is none."""
        return self._json("GET", path)

    def find(self, path: str) -> Optional[Object]:
        """One object, or None when there is none."""
        try:
            return self.get(path)
        except NotFound:
            return None

    def items(self, path: str, **query: str) -> List[Object]:
        """All objects below `path`: `items(path_of(…), labelSelector="app=shop")`."""
        return self.listing(path, **query)[0]

    def listing(self, path: str, **query: str) -> Tuple[List[Object], str]:
        """All objects, and the resourceVersion that a watch goes on from."""
        found: List[Object] = []
        asked: Dict[str, str] = {**query, "limit": str(_PAGE)}
        while True:
            page = self._json("GET", f"{path}?{urlencode(asked)}")
            found += page.get("items") or []
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return found, str(meta.get("resourceVersion") or "")
            asked["continue"] = str(meta["continue"])

    def create(self, path: str, body: Mapping[str, Any], *, dry: bool = False) -> Object:
        return self._json("POST", path + ("?dryRun=All" if dry else ""), body, JSON)

    def replace(self, path: str, body: Mapping[str, Any]) -> Object:
        """Write the whole object, only while it still has the `resourceVersion` of its `metadata`: else a Conflict."""
        return self._json("PUT", path, body, JSON)

    def patch(
        self, path: str, body: object, strategy: str = MERGE, *, dry: bool = False, repeatable: bool = False
    ) -> Object:
        """Change one object. Pin it: put the resourceVersion that was read into `metadata`, and get a Conflict.

        What is `repeatable`, because twice is as good as once, is sent again when its answer is lost.
        """
        return self._json("PATCH", path + ("?dryRun=All" if dry else ""), body, strategy, repeatable=repeatable)

    def delete(self, path: str, *, uid: str = "", propagation: str = "Background") -> Optional[Object]:
        """Remove one object, only while it has that `uid`; None when it was not there."""
        body: Object = {"propagationPolicy": propagation, **({"preconditions": {"uid": uid}} if uid else {})}
        try:
            return self._json("DELETE", path, body, JSON)
        except NotFound:
            return None

    def close(self) -> None:
        """End the connections that are kept."""
        self._pool.clear()

    def watch(
        self,
        path: str,
        version: str,
        seconds: float,
        opened: Optional[Callable[[Callable[[], None]], None]] = None,
        **query: str,
    ) -> Iterator[Tuple[str, Object]]:
        """`(ADDED | MODIFIED | DELETED, object)` as they happen, from `version` on, for at most `seconds`.

        Ends early when the server ends it or goes away: read again and go on from there. Raises Gone when the version
        is too old. `opened` is handed what ends the watch from another thread.
        """
        asked = {**query, "watch": "1", "resourceVersion": version, "timeoutSeconds": str(max(1, round(seconds)))}
        answer = self._send("GET", f"{path}?{urlencode(asked)}", None, "", read=seconds + _CONNECT)
        if opened is not None:
            opened(lambda: _end(answer))
        try:
            for line in _lines(answer):
                event = json.loads(line)
                if event.get("type") == "ERROR":
                    self._raise(int(event["object"].get("code") or 500), event["object"], "WATCH", path)
                yield str(event["type"]), event["object"]
        finally:
            # what is unread would otherwise be waited for before the connection is used again
            answer.close()

    def _json(
        self, method: str, path: str, body: object = None, content_type: str = "", *, repeatable: bool = False
    ) -> Object:
        answer = self._send(method, path, body, content_type, repeatable=repeatable or method == "GET")
        told: Object = json.loads(answer.data)
        return told

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        content_type: str,
        read: Optional[float] = None,
        *,
        repeatable: bool = True,
    ) -> Any:
        """The answer with its body unread; whatever is no success is raised. Tries again while that is safe."""
        import urllib3.exceptions

        began, pause, tries = self._clock(), _PAUSE, 0
        while True:
            tries += 1
            left = self.access.request_timeout - (self._clock() - began)
            problem: str
            try:
                answer = self._once(method, path, body, content_type, max(0.1, min(left, read or left)), read)
                self.date = str(answer.headers.get("Date") or "")
                if read is None:
                    answer.read(cache_content=True)  # an answer that breaks off in its middle is a lost one, too
                if answer.status not in _BUSY or (not repeatable and answer.status not in (429, 503)):
                    return self._good(answer, method, path)
                problem = f"it answers {answer.status}"
                answer.release_conn()
            except urllib3.exceptions.HTTPError as error:
                problem = _told(error)
                if not repeatable and not isinstance(error, urllib3.exceptions.NewConnectionError):
                    self._lost(method, path, problem)
            left = self.access.request_timeout - (self._clock() - began)
            if left <= 0:
                self._unreachable(problem, self._clock() - began, tries)
            self._sleep(min(pause, left))
            pause = min(_LONGEST, 2 * pause)

    def _once(self, method: str, path: str, body: object, content_type: str, left: float, read: Optional[float]) -> Any:
        import urllib3

        headers = urllib3.HTTPHeaderDict({"Accept": self._accept, "User-Agent": "selfheal.delivery"})
        for setting in self.access.configuration.auth_settings().values():
            if setting.get("in") == "header" and setting.get("value"):
                headers[setting["key"]] = setting["value"]
        for name, value in self.access.headers:
            headers.add(name, value)
        if content_type:
            headers["Content-Type"] = content_type
        self.requests += 1
        return self._pool.request(
            method,
            self.access.server + path,
            body=None if body is None else json.dumps(body),
            headers=headers,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=urllib3.Timeout(connect=min(_CONNECT, left), read=read or left),
        )

    def _good(self, answer: Any, method: str, path: str) -> Any:
        if 200 <= answer.status < 300:
            return answer
        try:
            told = json.loads(answer.data)
        except ValueError:
            told = {}
        self._raise(answer.status, told if isinstance(told, dict) else {}, method, path)

    def _raise(self, status: int, told: Mapping[str, Any], method: str, path: str) -> NoReturn:
        said = str(told.get("message") or f"the API server answered {status}")[:500]
        details = {"status": status, "path": path.partition("?")[0]}
        if status == 401:
            mend = "The token is wrong or has expired: log in again, or renew api_key"
            raise PlaceError(f"{self.access.server} does not accept who we are", mend=mend, details=details)
        if status == 403:
            what = _verb(method, path)
            raise Forbidden(f"RBAC forbids to {what}: {said}", mend=f"Grant it: {what}", details=details)
        if status == 404:
            raise NotFound(said, mend="Check name, namespace, kind and context", details=details)
        if status == 409:
            raise Conflict(said, mend="Look at what changed and run it again", details=details)
        if status == 410:
            raise Gone(said, details=details)
        raise PlaceError(f"{self.access.server} refused it: {said}", details=details)

    def _lost(self, method: str, path: str, problem: str) -> NoReturn:
        raise Lost(
            f"the answer to {_verb(method, path)} was lost ({problem}), so it may or may not have been done",
            mend="Run it again: what is done already is not done twice",
        )

    def _unreachable(self, problem: str, seconds: float, tries: int) -> NoReturn:
        raise PlaceError(
            f"{self.access.server} could not be asked in {seconds:.1f} s and {tries} tries: {problem}",
            mend="Check that it is up and can be reached from here; request_timeout is how long it is tried",
        )


def _pool(configuration: Any) -> Any:
    """The connections of a configuration, with its certificates."""
    if isinstance(configuration, PlainConfiguration):
        try:
            return configuration.pool()
        except OSError as error:  # of which ssl.SSLError is one
            raise PlaceError(
                f"the certificates for {configuration.host} cannot be used: {type(error).__name__}",
                mend="Check the kubeconfig, ca_cert, client_cert and client_key",
            ) from None
    import kubernetes.client

    return kubernetes.client.ApiClient(configuration).rest_client.pool_manager


def _end(answer: Any) -> None:
    """End a reading that another thread waits in; urllib3 before 2.3 cannot, so there it runs to its own end."""
    if hasattr(answer, "shutdown"):
        with suppress(OSError, ValueError):
            answer.shutdown()


def _lines(answer: Any) -> Iterator[bytes]:
    """The answer line by line, as it comes; a connection that breaks ends it."""
    import urllib3.exceptions

    rest = b""
    try:
        for chunk in answer.stream(65536):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line)
    except urllib3.exceptions.HTTPError:
        return


def _told(error: Exception) -> str:
    """What went wrong, in words without a URL or a header."""
    import urllib3.exceptions

    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "nobody listens there"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "it does not answer in time"
    if isinstance(error, urllib3.exceptions.SSLError):
        return "its certificate is not trusted (ca_cert, validate_certs)"
    return type(error).__name__


_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "WATCH": "watch"}


def _verb(method: str, path: str) -> str:
    """`patch deployments.apps 'shop' in namespace 'prod'`, from what was asked."""
    bare, asked = path.partition("?")[0].strip("/").split("/"), path.partition("?")[2]
    group = bare[1] if bare[0] == "apis" else ""
    rest = bare[3:] if bare[0] == "apis" else bare[2:]
    namespace = rest[1] if len(rest) > 1 and rest[0] == "namespaces" else ""
    rest = rest[2:] if namespace else rest
    verb = _VERBS.get(method, method.lower())
    if method == "GET" and len(rest) == 1:
        verb = "watch" if "watch=1" in asked else "list"
    resource = "/".join([rest[0], *rest[2:]]) + (f".{group}" if group else "") if rest else path
    name = f" {rest[1]!r}" if len(rest) > 1 else ""
    return f"{verb} {resource}{name}" + (f" in namespace {namespace!r}" if namespace else "")
