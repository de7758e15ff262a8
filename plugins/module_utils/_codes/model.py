# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the error-code catalogue: what a code is, and what can be wrong with its entry. Pure data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, Mapping, Tuple

from .._errors import OptionError, nearest

METRIC = "app_errors_total"
CODE = re.compile(r"[A-Z][A-Z0-9]{1,15}-[A-Z][A-Z0-9]{1,31}-[0-9]{3}")
CLASSES = ("client", "server", "dependency", "config", "data", "capacity")
SEVERITIES = ("critical", "error", "warning", "info")
ACTIONS = ("rollback", "flag_off", "restart", "page")
ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Alerting:
    """When a code's alert fires, and when it counts as raised since a deploy. Durations are seconds.

    It fires at `min_count` errors within `window`, that long for `hold`, and until it was quiet for `keep_firing_for`.
    It counts as raised when it is, beyond chance, over `ratio` times as frequent as before.
    """

    hold: float = 60.0
    keep_firing_for: float = 300.0
    window: float = 300.0
    min_count: int = 5
    ratio: float = 2.0


@dataclass(frozen=True)
class Code:
    """One entry. `kind` is its `class`; `deprecated` is since when, empty for a living code.

    `response` is what to do about it, in the order to try; `flag` is what `flag_off` turns off. `lines` tells by key
    where in the file it stands, the whole entry by "".
    """

    name: str
    title: str
    kind: str
    owner: str
    severity: str
    retryable: bool
    attributable: bool
    response: Tuple[str, ...]
    runbook: str
    public_message: str
    since: str
    deprecated: str = ""
    replaced_by: str = ""
    flag: str = ""
    alerting: Alerting = field(default_factory=Alerting)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def line_of(self, key: str) -> int:
        """Where the key stands, or the entry where it has no such key."""
        return self.lines.get(key, self.lines.get("", 1))

    @property
    def domain(self) -> str:
        return self.name.partition("-")[0]

    def as_dict(self) -> Dict[str, object]:
        """JSON-safe, with the keys of the file; all of them, so that nobody has to ask whether one is there."""
        return {
            "code": self.name,
            "title": self.title,
            "class": self.kind,
            "owner": self.owner,
            "severity": self.severity,
            "retryable": self.retryable,
            "attributable": self.attributable,
            "response": list(self.response),
            "flag": self.flag,
            "runbook": self.runbook,
            "public_message": self.public_message,
            "since": self.since,
            "deprecated": self.deprecated,
            "replaced_by": self.replaced_by,
            "alert": {
                "for": self.alerting.hold,
                "keep_firing_for": self.alerting.keep_firing_for,
                "window": self.alerting.window,
                "min_count": self.alerting.min_count,
                "ratio": self.alerting.ratio,
            },
        }


@dataclass(frozen=True)
class Catalogue:
    """All codes by name, in the order of the file. `where` names the file in messages."""

    where: str
    codes: Mapping[str, Code]
    internal_words: Tuple[str, ...] = ()

    def code(self, name: str) -> Code:
        """The entry of `name`; raises OptionError that names the nearest one."""
        found = self.codes.get(name)
        if found is None:
            raise OptionError(
                f"{self.where} has no error code {name[:60]!r}{nearest(name[:60], self.codes)}",
                mend="Correct the code, or add it to the catalogue",
            )
        return found


@dataclass(frozen=True)
class Problem:
    """One mistake: its line (from 1), the key that it is in (`SHOP-CART-001.severity`), a short name of the rule."""

    line: int
    key: str
    rule: str
    text: str
    mend: str
    level: str = ERROR

    def __str__(self) -> str:
        return f"line {self.line}, {self.key}: {self.text}. {self.mend}."

    def as_dict(self) -> Dict[str, object]:
        return dict(vars(self))
