# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `source`, `targets` and connection options that modules, the lookup and the actions share."""

from __future__ import annotations

import os
from typing import Dict, List, Mapping, Optional

from .._errors import OptionError, nearest
from .._sense.model import EVERYTHING, Target, Targets
from .._sense.options import SourceOptions, check_url, parse_source

Spec = Dict[str, Dict[str, object]]

_TARGET_KEYS = ("place", "url", "urls", "instance")


def source_spec(*, required: bool = True) -> Spec:
    """The `source` option. It sets no defaults, so that a policy's source can fill what is not given."""
    options: Spec = {
        "type": {"type": "str", "choices": ["exposition", "prometheus"]},
        "url": {"type": "str"},
        "urls": {"type": "list", "elements": "str"},
        "token": {"type": "str", "no_log": True},
        "token_file": {"type": "path"},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "client_cert": {"type": "path"},
        "client_key": {"type": "path", "no_log": False},
        "ca_path": {"type": "path"},
        "validate_certs": {"type": "bool"},
        "headers": {"type": "dict", "no_log": True},
        "tenant": {"type": "str"},
        "timeout": {"type": "float"},
        "place_label": {"type": "str"},
        "window": {"type": "float"},
        "up": {"type": "str"},
    }
    return {"source": {"type": "dict", "required": required, "options": options}}


def targets_spec() -> Spec:
    options: Spec = {
        "place": {"type": "str", "required": True},
        "url": {"type": "str"},
        "urls": {"type": "list", "elements": "str"},
        "instance": {"type": "str"},
    }
    return {"targets": {"type": "list", "elements": "dict", "options": options}}


def source_of(
    given: Optional[Mapping[str, object]],
    policy: Optional[Mapping[str, object]] = None,
    environment: Optional[Mapping[str, str]] = None,
) -> SourceOptions:
    """The source that a policy names, with what `given` says over it, and what the environment adds to it.

    `given` counts only when it is of the policy's type: another source's credentials are not for this one.
    """
    named = {key: value for key, value in (policy or {}).items() if value is not None}
    over = {key: value for key, value in (given or {}).items() if value is not None}
    if not named or over.get("type", named.get("type")) == named.get("type"):
        named.update(over)
    return parse_source(named, os.environ if environment is None else environment)


def targets_of(given: object, source: SourceOptions) -> Targets:
    """The places to ask: a list of `{place, url | urls, instance}` or of names; without any, all there is as one."""
    if given is None or given == []:
        return (Target(EVERYTHING, source.urls),) if source.type == "exposition" else ()
    if not isinstance(given, (list, tuple)):
        raise OptionError("targets is not a list", mend="Write it as a list of {place: …, url: …}")
    targets = tuple(_target(item) for item in given)
    names = [target.place for target in targets]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise OptionError(
            f"targets name {', '.join(twins)} more than once", mend="List a place's instances as its urls"
        )
    return targets


def _target(item: object) -> Target:
    if isinstance(item, str) and item:
        return Target(item)
    if not isinstance(item, Mapping) or not item.get("place"):
        raise OptionError("a target has no place", mend="Write each target as {place: …, url: …}")
    for key in item:
        if key not in _TARGET_KEYS:
            raise OptionError(f"target {item['place']!r} has no key {key!r}{nearest(str(key), _TARGET_KEYS)}")
    urls: List[str] = [str(url) for url in item.get("urls") or ()]
    if item.get("url"):
        urls.insert(0, str(item["url"]))
    return Target(str(item["place"]), tuple(check_url(url) for url in urls), str(item.get("instance") or ""))
