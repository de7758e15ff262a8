# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which provider stands for which type. Only the one in use is loaded, by a literal import that AnsiballZ can see."""

from __future__ import annotations

from .._errors import OptionError, nearest
from .model import Deadline, Options, Provider

TYPES = (
    "unleash",
    "flagd",
    "launchdarkly",
    "flagsmith",
    "flipt",
    "flipt_v2",
    "growthbook",
    "go_feature_flag",
    "gitlab",
    "posthog",
    "configcat",
    "json",
)


def provider_of(options: Options, deadline: Deadline) -> Provider:
    """The provider that `options.type` names; it asks nobody before its first call."""
    kind = options.type
    if kind == "unleash":
        from .unleash import build
    elif kind == "flagd":
        from .flagd import build
    elif kind == "launchdarkly":
        from .launchdarkly import build
    elif kind == "flagsmith":
        from .flagsmith import build
    elif kind == "flipt":
        from .flipt import build
    elif kind == "flipt_v2":
        from .flipt_v2 import build
    elif kind == "growthbook":
        from .growthbook import build
    elif kind == "go_feature_flag":
        from .go_feature_flag import build
    elif kind == "gitlab":
        from .gitlab import build
    elif kind == "posthog":
        from .posthog import build
    elif kind == "configcat":
        from .configcat import build
    elif kind == "json":
        from .json_file import build
    else:
        raise OptionError(f"provider has the unknown type {kind!r}{nearest(kind, TYPES)}", mend=_known())
    return build(options, deadline)


def _known() -> str:
    return f"Known are {', '.join(TYPES)}"
