# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a cluster is reached: the options of kubernetes.core, under the same names and from the same environment.

Documented by the fragment `kubernetes`. Loading a kubeconfig that takes more than to read it, with its exec plugins and
tokens, is the kubernetes library's, which is only imported here, when it is needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from ..._errors import OptionError, nearest
from ..wishes import Spec
from .kubeconfig import plain_configuration

CONNECTION: Spec = {
    "kubeconfig": {"type": "raw"},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "client_cert": {"type": "path", "aliases": ["cert_file"]},
    "client_key": {"type": "path", "aliases": ["key_file"], "no_log": False},
    "proxy": {"type": "str"},
    "no_proxy": {"type": "str"},
    "persist_config": {"type": "bool"},
    "impersonate_user": {"type": "str"},
    "impersonate_groups": {"type": "list", "elements": "str"},
    "request_timeout": {"type": "float", "default": 30.0},
}
# option -> what follows K8S_AUTH_ in the environment
_ENVIRONMENT = {
    "validate_certs": "VERIFY_SSL",
    "ca_cert": "SSL_CA_CERT",
    "client_cert": "CERT_FILE",
    "client_key": "KEY_FILE",
}
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Access:
    """A cluster's API server and the headers that every request carries.

    `configuration` is the kubernetes library's, or a `PlainConfiguration` that did without it; `request_timeout` bounds
    one call with all its tries, in seconds.
    """

    configuration: Any = field(repr=False)
    headers: Tuple[Tuple[str, str], ...] = field(repr=False)
    server: str
    request_timeout: float = 30.0
    context: str = ""


def settled(params: Mapping[str, Any], environ: Mapping[str, str]) -> Dict[str, Any]:
    """The connection's options, each from the task or else from the environment, as kubernetes.core reads them."""
    options: Dict[str, Any] = {}
    for name in CONNECTION:
        value = params.get(name)
        told = environ.get(f"K8S_AUTH_{_ENVIRONMENT.get(name, name.upper())}")
        if value is None and told:
            value = _from_environment(name, told)
        options[name] = value
    return options


def _from_environment(name: str, told: str) -> Any:
    if CONNECTION[name]["type"] == "bool":
        return told.strip().lower() in _TRUE
    return [part.strip() for part in told.split(",")] if CONNECTION[name]["type"] == "list" else told


def access(params: Mapping[str, Any], environ: Optional[Mapping[str, str]] = None) -> Access:
    """Settle how to reach the cluster; asks nobody yet. OptionError for a kubeconfig or context that is not there."""
    environ = os.environ if environ is None else environ
    options = settled(params, environ)
    given = params.get("request_timeout")
    timeout = 30.0 if given is None else float(given)
    if not 0 < timeout < float("inf"):
        raise OptionError("request_timeout is not a number of seconds above 0")
    configuration = plain_configuration(options, os.environ) or _configuration(options)
    _override(configuration, options)
    return Access(configuration, _impersonation(options), str(configuration.host), timeout, options["context"] or "")


def _configuration(options: Mapping[str, Any]) -> Any:
    import kubernetes.client
    import kubernetes.config

    config: Any = kubernetes.config  # the library is not typed
    configuration = kubernetes.client.Configuration()
    kubeconfig, context = options["kubeconfig"], options["context"]
    if options["host"] and not kubeconfig and not context:
        return configuration
    try:
        if isinstance(kubeconfig, Mapping):
            config.load_kube_config_from_dict(dict(kubeconfig), context=context, client_configuration=configuration)
        else:
            _load_file(config, configuration, kubeconfig, context, persist=bool(options["persist_config"]))
    except Exception as error:  # of a broken file the library raises whatever its parser does
        raise _unusable(config, kubeconfig, context, error) from None
    return configuration


def _load_file(config: Any, configuration: Any, path: Optional[str], context: Optional[str], *, persist: bool) -> None:
    """The kubeconfig; where none is named and none is there, the service account of the pod we run in."""
    try:
        file = os.path.expanduser(str(path)) if path else None
        config.load_kube_config(file, context=context, client_configuration=configuration, persist_config=persist)
    except config.ConfigException:
        if path or context or not os.environ.get("KUBERNETES_SERVICE_HOST"):
            raise
        config.load_incluster_config(client_configuration=configuration)


def _unusable(config: Any, kubeconfig: object, context: Optional[str], error: Exception) -> OptionError:
    """Why the kubeconfig cannot be used, without its content: that holds tokens."""
    named = "the kubeconfig"
    if not isinstance(kubeconfig, Mapping):
        path = os.path.expanduser(str(kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION))
        named = f"kubeconfig {path}"
        if not any(os.path.exists(part) for part in path.split(os.pathsep)):
            return OptionError(f"{named} is not there", mend="Set kubeconfig, or host and api_key")
    known = _contexts(config, kubeconfig)
    if context and known and context not in known:
        return OptionError(
            f"{named} has no context {context!r}{nearest(context, known)}", mend=f"It has {', '.join(known[:10])}"
        )
    return OptionError(f"{named} cannot be used: {type(error).__name__}", mend="Try it with kubectl")


def _contexts(config: Any, kubeconfig: object) -> Tuple[str, ...]:
    if isinstance(kubeconfig, Mapping):
        rows = kubeconfig.get("contexts")
    else:
        try:
            rows = config.list_kube_config_contexts(os.path.expanduser(str(kubeconfig)) if kubeconfig else None)[0]
        except Exception:  # a file that cannot be read at all: the library raises whatever its parser does
            return ()
    return tuple(str(row.get("name")) for row in rows or () if isinstance(row, Mapping))


def _override(configuration: Any, options: Mapping[str, Any]) -> None:
    """What the task says wins over the kubeconfig."""
    if options["host"]:
        configuration.host = str(options["host"]).rstrip("/")
    if options["api_key"]:
        configuration.api_key = {"authorization": f"Bearer {options['api_key']}"}
        # a hook would put the kubeconfig's own token back
        configuration.refresh_api_key_hook = None
    for option, attribute in (
        ("username", "username"),
        ("password", "password"),
        ("ca_cert", "ssl_ca_cert"),
        ("client_cert", "cert_file"),
        ("client_key", "key_file"),
        ("proxy", "proxy"),
        ("no_proxy", "no_proxy"),
    ):
        if options[option]:
            setattr(configuration, attribute, options[option])
    if options["validate_certs"] is not None:
        configuration.verify_ssl = bool(options["validate_certs"])
    for option in ("ca_cert", "client_cert", "client_key"):
        if options[option] and not os.path.exists(os.path.expanduser(options[option])):
            raise OptionError(f"{option} {options[option]} is not there", mend="Check the path on the controller")


def _impersonation(options: Mapping[str, Any]) -> Tuple[Tuple[str, str], ...]:
    """One header for each group: Kubernetes takes a list of groups only like that."""
    user, groups = options["impersonate_user"], options["impersonate_groups"] or []
    if groups and not user:
        raise OptionError("impersonate_groups needs impersonate_user")
    named = (("Impersonate-User", str(user)),) if user else ()
    return named + tuple(("Impersonate-Group", str(group)) for group in groups)
