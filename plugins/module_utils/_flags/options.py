# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of everything about flags: the argument specifications, and what they stand for.

Secrets may come from the environment, from files that are read for each run, or from the task; no message repeats one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import Any, Dict, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from .._act.kube.connection import CONNECTION
from .._act.wishes import CONTROLLER, Spec
from .._errors import OptionError, nearest
from .._sense.options import is_http
from .._tell.text import clean
from .model import OFF, ON, STATES, Options, Value, Where, Wish
from .providers import TYPES

EVALUATED, UNASKED = "evaluated", "no"
DEADLINE, TIMEOUT = 30.0, 5.0  # seconds

# the rest of what says how a cluster is reached comes from its kubeconfig, or from the environment
_REACHED_BY = ("kubeconfig", "context", "host", "api_key", "ca_cert", "client_cert", "client_key", "validate_certs")
_CLUSTER: Spec = {
    name: {key: part for key, part in CONNECTION[name].items() if key != "aliases"} for name in _REACHED_BY
}
_PROVIDER: Spec = {
    "type": {"type": "str", "required": True, "choices": list(TYPES)},
    "url": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "token_file": {"type": "path", "no_log": False},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "client_url": {"type": "str"},
    "client_token": {"type": "str", "no_log": True},
    "client_token_file": {"type": "path", "no_log": False},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": TIMEOUT},
    "path": {"type": "path"},
    "kind": {"type": "str"},
    "namespace": {"type": "str"},
    "name": {"type": "str"},
    "key": {"type": "str", "no_log": False},
    "cluster": {"type": "dict", "options": _CLUSTER},
}
_FLAG: Spec = {
    "flag": {"type": "str", "required": True},
    "environment": {"type": "str", "default": ""},
    "project": {"type": "str", "default": ""},
    "context": {"type": "dict", "default": {}},
    "deadline": {"type": "float", "default": DEADLINE},
    "provider": {"type": "dict", "required": True, "options": _PROVIDER},
}
INFO_ARGUMENTS: Spec = _FLAG
ARGUMENTS: Spec = {
    **CONTROLLER,
    "rollout": {"type": "str"},
    **_FLAG,
    "state": {"type": "str", "required": True, "choices": list(STATES)},
    "percentage": {"type": "float"},
    "variation": {"type": "str", "default": ""},
    "serve": {"type": "raw"},
    "verify": {"type": "str", "choices": [EVALUATED, UNASKED], "default": EVALUATED},
    "reason": {"type": "str", "default": ""},
}
# what each is taken from where nothing says it
ENVIRONMENT: Mapping[str, str] = {
    "url": "SELFHEAL_FLAGS_URL",
    "token": "SELFHEAL_FLAGS_TOKEN",
    "token_file": "SELFHEAL_FLAGS_TOKEN_FILE",
    "client_token": "SELFHEAL_FLAGS_CLIENT_TOKEN",
    "client_token_file": "SELFHEAL_FLAGS_CLIENT_TOKEN_FILE",
}
_TOGETHER = (("token", "token_file"), ("client_token", "client_token_file"))
_URLS = ("url", "client_url")
_PATHS = {"token_file", "client_token_file", "ca_path"}
_REASON = 500  # characters


@dataclass(frozen=True)
class Task:
    """One task, as its options say it. `deadline` is seconds for the change and for its becoming effective."""

    where: Where
    wish: Wish
    options: Options
    deadline: float = DEADLINE
    verify: bool = True


def parse(params: Mapping[str, object], environ: Optional[Mapping[str, str]] = None) -> Task:
    """The task that the options of module `feature_flag` describe; OptionError for what cannot be meant."""
    return Task(
        where=where_of(params),
        wish=wish_of(params),
        options=provider_options(params.get("provider"), environ),
        deadline=_seconds(params.get("deadline"), "deadline", DEADLINE),
        verify=_verify(params.get("verify")),
    )


def parse_look(params: Mapping[str, object], environ: Optional[Mapping[str, str]] = None) -> Task:
    """A task that only asks: nothing is wished, but for whom an evaluation is."""
    task = parse({**params, "state": OFF}, environ)
    return replace(task, wish=replace(task.wish, looks=True))


def where_of(params: Mapping[str, object]) -> Where:
    flag = _line(params.get("flag"), "flag")
    if not flag:
        raise OptionError("flag is missing", mend="Name the flag as its provider does")
    return Where(flag, _line(params.get("environment"), "environment"), _line(params.get("project"), "project"))


def wish_of(params: Mapping[str, object]) -> Wish:
    state = _state(params.get("state"))
    percentage, serve = _percentage(params.get("percentage")), params.get("serve")
    variation = _line(params.get("variation"), "variation")
    context = params.get("context")
    if state == OFF and percentage is not None:
        raise OptionError("percentage is of state: on", mend="Remove it: a flag that is off is off for everyone")
    if state == ON and variation and serve is None:
        raise OptionError(
            f"serve is missing, without which nobody can see that clients are served variation {variation!r}",
            mend="Set serve to the value that the variation stands for",
        )
    if context is not None and not isinstance(context, Mapping):
        raise OptionError("context is not a mapping", mend="Write it like {targetingKey: user-1}")
    return Wish(
        state=state,
        serve=(state == ON) if serve is None else _json(serve, "serve"),
        percentage=percentage,
        variation=variation,
        reason=clean(params.get("reason") or "", _REASON),
        context={str(key): _json(value, f"context.{key}") for key, value in (context or {}).items()},
    )


def provider_options(raw: object, environ: Optional[Mapping[str, str]] = None) -> Options:
    """The provider that a task names, with what the environment adds to it."""
    given = checked_provider(raw)
    environ = os.environ if environ is None else environ
    for key, variable in ENVIRONMENT.items():
        # a credential of the task is not mixed with another one of the environment
        pair = next((each for each in _TOGETHER if key in each), (key,))
        if environ.get(variable) and not any(given.get(name) for name in pair):
            given[key] = environ[variable]
    texts = {each.name for each in fields(Options) if each.type == "str"}
    for key in texts & set(given):
        given[key] = _text(given[key], f"provider.{key}")
    for key in _PATHS & set(given):  # as modules' options of type path are read; a lookup has none
        given[key] = os.path.expanduser(os.path.expandvars(given[key]))
    for key in _URLS:
        _check_url(given.get(key), f"provider.{key}")
    given["timeout"] = _seconds(given.get("timeout"), "provider.timeout", TIMEOUT)
    if not isinstance(given.get("validate_certs", True), bool):
        raise OptionError("provider.validate_certs is neither true nor false")
    given["cluster"] = _cluster(given.get("cluster", {}))
    return Options(**given)


def checked_provider(raw: object) -> Dict[str, Any]:
    """The keys of `provider` that are set; OptionError for a wrong key or type, which names the nearest right one."""
    if not isinstance(raw, Mapping):
        raise OptionError("provider is not a mapping", mend="Write it as {type: …, url: …}")
    for key in raw:
        if key not in _PROVIDER:
            raise OptionError(
                f"provider has no key {clean(key, 60)!r}{nearest(str(key), _PROVIDER)}",
                mend=f"It takes {', '.join(_PROVIDER)}",
            )
    given = {str(key): value for key, value in raw.items() if value is not None}
    kind = str(given.get("type") or "")
    if kind not in TYPES:
        wrong = f"the unknown type {clean(kind, 60)!r}{nearest(kind, TYPES)}" if kind else "no type"
        raise OptionError(f"provider has {wrong}", mend=f"Known are {', '.join(TYPES)}")
    return given


def _cluster(raw: object) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise OptionError("provider.cluster is not a mapping", mend=f"It takes {', '.join(_REACHED_BY)}")
    for key in raw:
        if key not in CONNECTION:
            raise OptionError(f"provider.cluster has no key {clean(key, 60)!r}{nearest(str(key), _REACHED_BY)}")
    return {str(key): value for key, value in raw.items() if value is not None}


def _state(value: object) -> str:
    """YAML reads an unquoted `off` as false."""
    state = {False: OFF, True: ON}[value] if isinstance(value, bool) else value
    if state not in STATES:
        raise OptionError("state is neither on nor off")
    return str(state)


def _verify(value: object) -> bool:
    if value in (None, EVALUATED):
        return True
    if value is False or value == UNASKED:
        return False
    raise OptionError(f"verify is neither {EVALUATED} nor {UNASKED}")


def _percentage(value: object) -> Optional[float]:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise OptionError("percentage is not a number from 0 to 100", mend="It is how many of 100 are served it")
    return float(value)


def _seconds(value: object, name: str, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise OptionError(f"{name} is not a number of seconds above 0")
    return float(value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise OptionError(f"{name} is not text")
    return value


def _line(value: object, name: str) -> str:
    text = "" if value is None else _text(value, name)
    if any(letter < " " or letter == "\x7f" for letter in text):
        raise OptionError(f"{name} has a control character in it")
    return text


def _json(value: object, name: str) -> Value:
    """A value that JSON can say, in plain containers."""
    if isinstance(value, Mapping):
        return {str(key): _json(part, name) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(part, name) for part in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise OptionError(f"{name} is not a value that JSON can say", mend="Quote it, if it is meant as a text")


def _check_url(value: object, name: str) -> None:
    """OptionError for a URL that is not one of http or https, or has credentials in it; it is not repeated."""
    if not value:
        return
    if not is_http(str(value)):
        raise OptionError(f"{name} is not an http or https URL", mend="Write it like https://flags.example.org")
    parts = urlsplit(str(value))
    if parts.username is not None or parts.password is not None:
        raise OptionError(f"{name} has credentials in it", mend="Give them as token or token_file")
    if parts.query or parts.fragment:
        raise OptionError(f"{name} has a query or a fragment", mend="Only its address belongs there")


def secrets_of(options: Options) -> Tuple[str, ...]:
    """Everything that must not be shown, as far as it can be read: a file that cannot is told by who needs it."""
    api_key = options.cluster.get("api_key")
    found = [options.token, options.client_token, options.password, str(api_key or "")]
    for name in (options.token_file, options.client_token_file):
        if name:
            try:
                with open(name, encoding="utf-8") as file:
                    found.append(file.read().strip())
            except (OSError, UnicodeDecodeError):
                continue
    return tuple(secret for secret in found if secret)
