# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a user says about channels to where a message goes: the one place that knows which kinds there are."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

from .._errors import OptionError, nearest
from .channel import Channel, Config, secrets_of
from .email import Email
from .message import EVENTS, RESOLVE, SEVERITIES, Message, incident_action
from .pagerduty import PagerDuty
from .slack import Slack
from .text import clean
from .webhook import Webhook

TYPES: Mapping[str, Channel] = {
    "slack": Slack(),
    "pagerduty": PagerDuty(),
    "webhook": Webhook(),
    "email": Email(),
}
ENVIRONMENT = "SELFHEAL_NOTIFY_"
_ROUTING = ("type", "only", "min_severity")
_WORDS = {str: "text", int: "a number", bool: "true or false", list: "a list of texts"}


@dataclass(frozen=True)
class Route:
    """One channel by its name. What reaches it is repeated to nobody: `config` stays out of the repr."""

    name: str
    channel: Channel = field(repr=False)
    config: Config = field(repr=False)
    only: Tuple[str, ...] = ()
    least: str = "info"

    def wants(self, message: Message) -> bool:
        """Whether it is told of this. What resolves an incident passes, however harmless: it ends what was told."""
        if self.only and message.event not in self.only:
            return False
        if self.channel.ORDERED and incident_action(message) == RESOLVE:
            return True
        return SEVERITIES.index(message.severity) >= SEVERITIES.index(self.least)

    @property
    def secrets(self) -> Sequence[str]:
        return secrets_of(self.channel, self.config)


def parse_channels(channels: Mapping[str, object], environment: Mapping[str, str]) -> Sequence[Route]:
    """Every channel, checked; OptionError names the channel and the nearest right word, and repeats no secret.

    A secret that is not given comes from `environment`: SELFHEAL_NOTIFY_, the channel's name and the option's, in
    capitals.
    """
    return [_route(str(name), given, environment) for name, given in channels.items()]


def _route(name: str, given: object, environment: Mapping[str, str]) -> Route:
    if not isinstance(given, Mapping):
        raise _wrong(
            name, "is not a dictionary", mend=f"Write it like {{type: slack, …}}, with one of {', '.join(TYPES)}"
        )
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        word = clean(kind or "", 40)
        raise _wrong(name, f"has the type {word!r}, which there is not{nearest(word, TYPES)}", mend=_one_of(TYPES))
    channel = TYPES[kind]
    config = _config(name, channel, given, environment)
    ca_path = config.get("ca_path")
    if isinstance(ca_path, str) and not os.path.exists(ca_path):
        raise _wrong(
            name, f"has the ca_path {clean(ca_path, 200)!r}, where nothing is", mend="Name a file, or a folder"
        )
    try:
        channel.check(config)
    except OptionError as error:
        raise _wrong(name, f"cannot work: {error.what}", mend=error.mend) from None
    least = given.get("min_severity") or channel.LEAST
    if least not in SEVERITIES:
        word = clean(least, 40)
        raise _wrong(name, f"has the min_severity {word!r}{nearest(word, SEVERITIES)}", mend=_one_of(SEVERITIES))
    return Route(name, channel, config, _only(name, given.get("only")), str(least))


def _config(name: str, channel: Channel, given: Mapping[str, object], environment: Mapping[str, str]) -> Config:
    known = (*_ROUTING, *channel.OPTIONS)
    for option in given:
        if option not in known:
            raise _wrong(name, f"has no option {clean(option, 40)!r}{nearest(str(option), known)}", mend=_one_of(known))
    config: Dict[str, object] = {}
    for option, kind in channel.OPTIONS.items():
        value = given.get(option)
        if value in (None, "") and option in channel.SECRETS:
            value = environment.get(variable(name, option))
        if value not in (None, ""):
            config[option] = _typed(name, option, kind, value)
    for option in channel.REQUIRED:
        if not config.get(option):
            where = f", or {variable(name, option)} in the environment" if option in channel.SECRETS else ""
            raise _wrong(name, f"has no {option}", mend=f"Set it{where}")
    return config


def variable(name: str, option: str) -> str:
    """The environment variable that holds a secret of a channel."""
    return ENVIRONMENT + re.sub(r"\W", "_", f"{name}_{option}", flags=re.ASCII).upper()


def _typed(name: str, option: str, kind: type, value: object) -> object:
    """The value as its option wants it; templates give text where a number or a truth value was meant."""
    if kind is list and isinstance(value, str):
        return [one.strip() for one in value.split(",") if one.strip()]
    if kind is list and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return [str.__str__(one) for one in value]
    if kind is str and isinstance(value, str):
        return str.__str__(value)
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind is int and not isinstance(value, bool) and str(value).isdigit() and 0 < int(str(value)) < 65536:
        return int(str(value))
    raise _wrong(name, f"has an option {option} that is not {_WORDS[kind]}", mend="Mend it in the inventory")


def _only(name: str, given: object) -> Tuple[str, ...]:
    only: List[object] = [given] if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else []
    if given is not None and not isinstance(given, (str, list, tuple)):
        raise _wrong(name, "has an only that is no list of events", mend=_one_of(EVENTS))
    for event in only:
        if event not in EVENTS:
            word = clean(event, 40)
            raise _wrong(name, f"is only for the event {word!r}{nearest(word, EVENTS)}", mend=_one_of(EVENTS))
    return tuple(str(event) for event in only)


def _one_of(known: Iterable[str]) -> str:
    return f"Take one of {', '.join(known)}"


def _wrong(name: str, what: str, *, mend: str) -> OptionError:
    return OptionError(f"the channel {clean(name, 80)!r} {what}", mend=mend)
