# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one mapping that a person wrote, key by key, so that every error names its place and its mend."""

from __future__ import annotations

import math
import re
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .._errors import OptionError, nearest

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


class Part:
    """One mapping. `where` begins every message; `of` says what has the known keys."""

    def __init__(self, where: str, raw: object, known: Sequence[str], *, of: str = "") -> None:
        if not isinstance(raw, Mapping):
            raise OptionError(f"{where} must be a mapping, not {kind_of(raw)}", mend="Write it as key: value")
        self.where = where
        self._raw = raw
        for key in raw:
            if key not in known:
                raise OptionError(
                    f"{where}: unknown key {str(key)!r}{nearest(str(key), known)}",
                    mend=f"Known keys{' of ' + of if of else ''}: {', '.join(known)}",
                )

    def get(self, key: str) -> object:
        return self._raw.get(key)

    def plain(self) -> Dict[str, object]:
        copy = plain(self._raw)
        return copy if isinstance(copy, dict) else {}

    def items(self, key: str) -> Sequence[object]:
        raw = self.get(key)
        if raw is None:
            return ()
        if isinstance(raw, (str, bytes)) or not isinstance(raw, Sequence):
            raise OptionError(f"{self.where}: {key} must be a list, not {kind_of(raw)}", mend=f"Write {key} as a list")
        return raw

    def need(self, key: str, value: Optional[float], what: str) -> float:
        if value is None:
            raise OptionError(f"{self.where} has no {key}", mend=f"Set {key}: {what}")
        return value

    def query(self, key: str) -> str:
        raw = self.get(key)
        if raw is None or (isinstance(raw, str) and not raw.strip()):
            raise OptionError(
                f"{self.where} has no query: {key} is missing", mend=f"Set {key} to a metric or a selector"
            )
        if not isinstance(raw, str):
            raise OptionError(f"{self.where}: {key} must be text, not {kind_of(raw)}", mend="Quote the query")
        return str(raw).strip()

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        raw = self.get(key)
        if raw is None:
            return default
        if not isinstance(raw, str) or raw not in choices:
            near = nearest(raw, choices) if isinstance(raw, str) else ""
            raise OptionError(
                f"{self.where}: {key} must be one of {', '.join(choices)}, not {shown(raw)}{near}",
                mend=f"Correct {key}",
            )
        return str(raw)

    def maybe(self, key: str, *, least: float = -math.inf, above: float = -math.inf) -> Optional[float]:
        raw = self.get(key)
        if raw is None:
            return None
        return self._within(key, _number(raw), raw, (least, above, math.inf), "a number")

    def number(self, key: str, default: float, *, above: float) -> float:
        value = self.maybe(key, above=above)
        return default if value is None else value

    def maybe_share(self, key: str, *, least: float = 0.0, most: float = 1.0) -> Optional[float]:
        raw = self.get(key)
        if raw is None:
            return None
        text = str(raw).strip() if isinstance(raw, str) else ""
        value = _number(text[:-1]) if text.endswith("%") else _number(raw)
        if value is not None and text.endswith("%"):
            value = round(value / 100, 15)
        return self._within(key, value, raw, (least, -math.inf, most), "a share such as 0.05 or 5%")

    def share(self, key: str, default: float, *, least: float, most: float) -> float:
        value = self.maybe_share(key, least=least, most=most)
        return default if value is None else value

    def maybe_seconds(self, key: str, *, least: float = 0.0) -> Optional[float]:
        raw = self.get(key)
        if raw is None:
            return None
        what = "a duration in seconds, or text such as 30s, 5m or 1h"
        return self._within(key, _seconds(raw), raw, (least, -math.inf, math.inf), what)

    def seconds(self, key: str, default: float, *, least: float = 0.0) -> float:
        value = self.maybe_seconds(key, least=least)
        return default if value is None else value

    def maybe_whole(self, key: str, *, least: int) -> Optional[int]:
        value = self.maybe(key, least=float(least))
        if value is not None and value != int(value):
            raise OptionError(f"{self.where}: {key} must be a whole number, not {value:g}", mend=f"Correct {key}")
        return None if value is None else int(value)

    def whole(self, key: str, default: int, *, least: int) -> int:
        value = self.maybe_whole(key, least=least)
        return default if value is None else value

    def _within(
        self, key: str, value: Optional[float], raw: object, bounds: Tuple[float, float, float], what: str
    ) -> float:
        if value is None:
            raise OptionError(f"{self.where}: {key} must be {what}, not {shown(raw)}", mend=f"Correct {key}")
        least, above, most = bounds
        if value < least or value > most or value <= above:
            limits = [f"at least {least:g}"] * math.isfinite(least) + [f"above {above:g}"] * math.isfinite(above)
            limits += [f"at most {most:g}"] * math.isfinite(most)
            raise OptionError(
                f"{self.where}: {key} must be {' and '.join(limits)}, not {shown(raw)}", mend=f"Correct {key}"
            )
        return value


def _number(raw: object) -> Optional[float]:
    """A finite number, also from text, which is what templates leave behind; None for anything else."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _seconds(raw: object) -> Optional[float]:
    value = _number(raw)
    if value is not None or not isinstance(raw, str):
        return value
    match = _DURATION.fullmatch(str(raw).strip())
    if match is None or not any(match.groups()):
        return None
    return sum(float(part) * unit for part, unit in zip(match.groups(), (3600.0, 60.0, 1.0, 0.001)) if part)


def kind_of(raw: object) -> str:
    names: List[Tuple[type, str]] = [(bool, "a boolean"), (str, "text"), (int, "a number"), (float, "a number")]
    if raw is None:
        return "nothing"
    return next(
        (name for kind, name in names if isinstance(raw, kind)), "a mapping" if isinstance(raw, Mapping) else "a list"
    )


def shown(raw: object) -> str:
    if isinstance(raw, str):
        return repr(str(raw)[:60])
    return kind_of(raw) if raw is None or isinstance(raw, (Mapping, Sequence)) else str(raw)[:60]


def plain(raw: object) -> object:
    """A JSON-safe copy of plain types: Ansible hands over tagged subclasses and lazy containers."""
    if isinstance(raw, Mapping):
        return {str(key): plain(value) for key, value in raw.items()}
    if isinstance(raw, str):
        return str(raw)
    if isinstance(raw, Sequence):
        return [plain(item) for item in raw]
    if raw is None or isinstance(raw, bool):
        return raw
    if isinstance(raw, int):
        return int(raw)
    return float(raw) if isinstance(raw, float) else str(raw)
