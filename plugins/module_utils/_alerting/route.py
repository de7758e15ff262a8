# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanager's way to the controller: a receiver that proves who it is, and the routes that lead there. Pure.

No secret is ever in what is made: each is in a file on Alertmanager's machine.
"""

from __future__ import annotations

import copy
import ipaddress
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple
from urllib.parse import urlsplit

from .._codes.generate import HEALER, Doc, as_yaml, duration
from .._errors import OptionError
from .._judge.part import kind_of

MADE = "# Made by selfheal.delivery.alert_route. Do not edit.\n---\n"
ACTING = ("rollback", "flag_off", "restart")
GROUP_BY = ["service", "environment"]
NOBODY: Mapping[str, object] = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


@dataclass(frozen=True)
class Endpoint:
    """Where the controller takes alerts, and the files by which Alertmanager proves who it is there."""

    url: str
    credentials_file: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    unauthenticated: bool = False


@dataclass(frozen=True)
class Timing:
    """How alerts are gathered and repeated, in seconds. One POST holds at most `max_alerts`.

    A service's alerts of one evaluation go out together after `group_wait`. What was lost on the way comes again after
    `repeat_interval`; who acts on alerts knows each by its fingerprint, so that a repeat does nothing twice.
    """

    group_wait: float = 1.0
    group_interval: float = 15.0
    repeat_interval: float = 300.0
    watchdog_every: float = 60.0
    max_alerts: int = 500


@dataclass(frozen=True)
class Way:
    """All that belongs into Alertmanager's configuration, as data. After the routes, one has to take every alert."""

    routes: List[Doc]
    receivers: List[Doc]
    warnings: Tuple[str, ...] = ()


def way(
    endpoint: Endpoint,
    timing: Timing,
    *,
    watchdog: str = "Watchdog",
    watchdog_continue: bool = False,
    receiver: str = HEALER,
    responses: Sequence[str] = ACTING,
) -> Way:
    """The routes to put before all others, and the receiver they need; OptionError for what would not be taken."""
    if not receiver.strip():
        raise OptionError("receiver is empty", mend="Name it, for example selfheal")
    unknown = [word for word in responses if word not in (*ACTING, "page")]
    if unknown or not responses:
        raise OptionError(f"responses takes {', '.join((*ACTING, 'page'))}", mend="Name at least one of them")
    if timing.repeat_interval < timing.group_interval:
        raise OptionError(
            "repeat_interval is shorter than group_interval",
            mend="Alertmanager looks at a group once per group_interval",
        )
    acting: Doc = {
        "matchers": ['service!=""', f'response=~"{"|".join(sorted(responses))}"'],
        "receiver": receiver,
        "group_by": GROUP_BY,
        "group_wait": duration(timing.group_wait),
        "group_interval": duration(timing.group_interval),
        "repeat_interval": duration(timing.repeat_interval),
        # people are told by their own routes as well
        "continue": True,
    }
    routes = [acting, *([_watchdog(watchdog, receiver, timing.watchdog_every, watchdog_continue)] if watchdog else [])]
    return Way(routes, [_receiver(receiver, endpoint, timing.max_alerts)], _in_clear(endpoint))


def _watchdog(name: str, receiver: str, every: float, onwards: bool) -> Doc:
    return {
        "matchers": [f'alertname="{name}"'],
        "receiver": receiver,
        "group_by": ["alertname"],
        "group_wait": "0s",
        "group_interval": duration(every),
        # shorter than the interval at which Alertmanager looks, or every other repeat would come one round late
        "repeat_interval": duration(round(every * 5 / 6, 3)),
        # it fires always: only who waits for it wants to be told
        "continue": onwards,
    }


def _receiver(name: str, endpoint: Endpoint, max_alerts: int) -> Doc:
    return {
        "name": name,
        "webhook_configs": [
            {
                "url": _checked(endpoint.url),
                "send_resolved": True,
                "max_alerts": max_alerts,
                "http_config": {**_proof(endpoint), "follow_redirects": False},
            }
        ],
    }


def _checked(url: str) -> str:
    """The URL, without repeating it in an error: it may hold a secret."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise OptionError("url is no URL", mend="Write it like https://controller.example.org:5050/alerts") from None
    if not valid or "@" in parts.netloc or parts.query or parts.fragment or any(char.isspace() for char in url):
        raise OptionError(
            "url is not a plain http or https URL",
            mend="Write it like https://controller.example.org:5050/alerts; credentials go to credentials_file",
        )
    return url


def _proof(endpoint: Endpoint) -> Doc:
    """The part of http_config that says who we are; OptionError where there is none, or half of one."""
    bearer = bool(endpoint.credentials_file)
    basic, mutual = (_both(endpoint, *names) for names in (("username", "password_file"), ("cert_file", "key_file")))
    if bearer and basic:
        raise OptionError("there is both a credentials_file and a username", mend="Give one of them")
    if (mutual or endpoint.ca_file or endpoint.server_name) and not endpoint.url.startswith("https:"):
        raise OptionError("the files for TLS need an https url", mend="Write url with https")
    if not (bearer or basic or mutual or endpoint.unauthenticated):
        raise OptionError(
            "alerts would be sent without a proof of who sends them",
            mend="Give credentials_file, username and password_file, or cert_file and key_file",
        )
    proof: Doc = {}
    if bearer:
        proof["authorization"] = {"type": "Bearer", "credentials_file": endpoint.credentials_file}
    if basic:
        proof["basic_auth"] = {"username": endpoint.username, "password_file": endpoint.password_file}
    tls = {name: getattr(endpoint, name) for name in ("ca_file", "cert_file", "key_file", "server_name")}
    tls = {name: value for name, value in tls.items() if value}
    return {**proof, **({"tls_config": tls} if tls else {})}


def _both(endpoint: Endpoint, one: str, other: str) -> bool:
    given = [name for name in (one, other) if getattr(endpoint, name)]
    if len(given) == 1:
        raise OptionError(f"{one} and {other} belong together", mend=f"There is only {given[0]}")
    return bool(given)


def _in_clear(endpoint: Endpoint) -> Tuple[str, ...]:
    parts = urlsplit(endpoint.url)
    secret = endpoint.credentials_file or endpoint.password_file
    if not secret or parts.scheme == "https" or _loopback(parts.hostname or ""):
        return ()
    return (f"the credentials go to {parts.hostname} in clear: use https",)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def configuration(made: Way, config: Mapping[str, object]) -> str:
    """Alertmanager's whole configuration: `config`, with our routes before all others; nothing in it is lost."""
    whole: Dict[str, object] = copy.deepcopy(dict(config))
    route, receivers = whole.get("route"), whole.get("receivers")
    if not isinstance(route, dict) or not isinstance(receivers, list):
        raise OptionError(
            "config is not Alertmanager's configuration: it has no route and receivers",
            mend="Give route with a receiver, and the list receivers",
        )
    names = [str(receiver.get("name")) for receiver in receivers if isinstance(receiver, dict)]
    taken = [name for name in (str(receiver["name"]) for receiver in made.receivers) if name in names]
    if taken:
        raise OptionError(f"config has a receiver {taken[0]!r} of its own", mend="Name ours otherwise in receiver")
    routes = route.get("routes") or []
    if not isinstance(routes, list):
        raise OptionError(f"route.routes of config is {kind_of(routes)}", mend="Write it as a list")
    # a child that matched hides the root's own receiver, whatever it continues to: what was the root comes last
    rest = {"receiver": route.get("receiver"), "routes": routes}
    whole["route"] = {**route, "routes": [*made.routes, rest]}
    whole["receivers"] = [*receivers, *made.receivers]
    return MADE + as_yaml(whole)
