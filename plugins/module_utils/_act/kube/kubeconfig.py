# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubeconfig that says all there is to know: a server, whom to trust, and a token or a client certificate.

The kubernetes library needs a quarter of a second to be imported, which is longer than a rollback's requests. What it
has to be asked for (programs that give a token, providers, proxies, several files, or anything that looks wrong) is
not read here.
"""

from __future__ import annotations

import os
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple
from urllib.request import getproxies

_USER = frozenset(("token", "tokenFile", "client-certificate", "client-key"))
_CLUSTER = frozenset(
    ("server", "certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify", "tls-server-name")
)
_OTHERS = ("username", "password", "proxy", "no_proxy", "persist_config")  # options that are the library's
_CONNECTIONS = 10


@dataclass
class PlainConfiguration:
    """As much of the kubernetes library's `Configuration` as is used here, under the same names."""

    host: str
    api_key: Dict[str, str] = field(default_factory=dict, repr=False)
    ssl_ca_cert: Optional[str] = None
    ca_cert_data: Optional[str] = None
    cert_file: Optional[str] = None
    key_file: Optional[str] = None
    verify_ssl: bool = True
    tls_server_name: Optional[str] = None
    refresh_api_key_hook: Optional[Callable[[Any], None]] = None  # none of these changes

    def auth_settings(self) -> Dict[str, Dict[str, str]]:
        key = self.api_key.get("authorization")
        return {"BearerToken": {"in": "header", "key": "authorization", "value": key}} if key else {}

    def pool(self) -> Any:
        """The connections, an `urllib3.PoolManager`. OSError or SSLError for certificates that cannot be used."""
        import urllib3
        from urllib3.exceptions import InsecureRequestWarning

        if not self.verify_ssl:
            urllib3.disable_warnings(InsecureRequestWarning)  # that is what was asked for
        named = {"server_hostname": self.tls_server_name} if self.tls_server_name else {}
        secured = {"ssl_context": self._context(), **named} if self.host.startswith("https:") else {}
        return urllib3.PoolManager(maxsize=_CONNECTIONS, **secured)

    def _context(self) -> Any:
        import ssl

        from urllib3.util.ssl_ import create_urllib3_context

        context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if self.verify_ssl else ssl.CERT_NONE)
        if self.ssl_ca_cert or self.ca_cert_data:
            # an option's file counts more than what the kubeconfig holds
            data = None if self.ssl_ca_cert else self.ca_cert_data
            context.load_verify_locations(cafile=self.ssl_ca_cert, cadata=data)
        else:
            context.load_default_certs()
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


def plain_configuration(options: Mapping[str, Any], environ: Mapping[str, str]) -> Optional[PlainConfiguration]:
    """What the connection's options lead to, but for those that win over the kubeconfig; None: ask the library."""
    if any(options.get(name) is not None for name in _OTHERS) or set(getproxies()) - {"no"}:
        return None
    kubeconfig, context = options.get("kubeconfig"), options.get("context")
    if options.get("host") and not kubeconfig and not context:
        return PlainConfiguration(str(options["host"]))
    try:
        found, folder = _read(kubeconfig, environ)
        return _of_context(found, str(context or found["current-context"]), folder)
    except Exception:  # of whatever is wrong the library knows what to say
        return None


def _read(kubeconfig: object, environ: Mapping[str, str]) -> Tuple[Mapping[str, Any], str]:
    """The content, and the folder that its paths begin in."""
    if isinstance(kubeconfig, Mapping):
        return kubeconfig, ""
    import yaml

    path = os.path.expanduser(str(kubeconfig or environ.get("KUBECONFIG") or "~/.kube/config"))
    with open(path, encoding="utf-8") as stream:  # several files in one name are no file
        found = yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found, os.path.abspath(os.path.dirname(path))


def _of_context(found: Mapping[str, Any], context: str, folder: str) -> Optional[PlainConfiguration]:
    about = _named(found["contexts"], context)["context"]
    cluster = _named(found["clusters"], about["cluster"])["cluster"]
    user = (_named(found["users"], about["user"])["user"] or {}) if about.get("user") else {}
    if set(cluster) - _CLUSTER or set(user) - _USER or not cluster["server"].startswith(("https://", "http://")):
        return None
    files = {
        name: _file(folder, holder.get(name))
        for holder, names in ((cluster, ("certificate-authority",)), (user, ("client-certificate", "client-key")))
        for name in names
    }
    data, token = cluster.get("certificate-authority-data"), _token(user, folder)
    return PlainConfiguration(
        host=cluster["server"].rstrip("/"),
        api_key={"authorization": f"Bearer {token}"} if token else {},
        ssl_ca_cert=None if data else files["certificate-authority"],
        ca_cert_data=b64decode(data).decode("ascii") if data else None,
        cert_file=files["client-certificate"],
        key_file=files["client-key"],
        verify_ssl=not cluster.get("insecure-skip-tls-verify", False),
        tls_server_name=cluster.get("tls-server-name"),
    )


def _named(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next(row for row in rows if row["name"] == name)


def _token(user: Mapping[str, Any], folder: str) -> str:
    token: str = user.get("token", "")
    if "token" not in user and user.get("tokenFile"):
        with open(os.path.join(folder, user["tokenFile"]), encoding="utf-8") as stream:
            token = stream.read()
    if not isinstance(token, str) or "\n" in token:
        raise ValueError("not a token")
    return token


def _file(folder: str, name: Optional[str]) -> Optional[str]:
    if not name:
        return None
    path = os.path.normpath(os.path.join(folder, name))
    if not os.path.isfile(path):
        raise FileNotFoundError(path)
    return path
