# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of PromQL that both sources understand: the selector, `name{a="x", b!="y", c=~"re", d!~"re"}`.

The grammar and its meaning (a label that is missing is the empty string, regular expressions are anchored) are those
of Prometheus: https://prometheus.io/docs/prometheus/latest/querying/basics/#time-series-selectors
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Iterable, List, Mapping, Pattern, Tuple

from .._errors import OptionError

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_MATCHER = re.compile(
    r"""\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_.]*|"(?:[^"\\]|\\.)+")\s*(?P<op>=~|!~|!=|=)\s*"""
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)\s*(?P<end>,|\Z)"""
)
_QUOTED_NAME = re.compile(r"""\s*(?P<text>"(?:[^"\\]|\\.)+")\s*(?P<end>,|\Z)""")
_SUFFIX = re.compile(r"_(?:bucket|count|sum)$")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class NotASelector(OptionError):
    """The expression is not a plain selector; a metrics server may still understand it."""


@dataclass(frozen=True)
class Matcher:
    label: str
    op: str
    text: str
    pattern: Pattern[str] = field(compare=False, repr=False)

    def accepts(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.label, "")
        if self.op == "=":
            return found == self.text
        if self.op == "!=":
            return found != self.text
        matched = self.pattern.fullmatch(found) is not None
        return matched if self.op == "=~" else not matched

    def __str__(self) -> str:
        return f"{self.label}{self.op}{quoted(self.text)}"


@dataclass(frozen=True)
class Selector:
    """A metric's name and what its labels must be."""

    name: str
    matchers: Tuple[Matcher, ...] = ()

    def accepts(self, labels: Mapping[str, str]) -> bool:
        return all(matcher.accepts(labels) for matcher in self.matchers)

    def unseen(self, series: Iterable[Mapping[str, str]]) -> List[str]:
        """The labels that the selector asks for and that none of these series of its metric has."""
        seen = [frozenset(labels) for labels in series]
        asked = [matcher.label for matcher in self.matchers if not matcher.accepts({})]
        return [label for label in asked if seen and not any(label in labels for labels in seen)]

    def renamed(self, name: str) -> "Selector":
        return Selector(name, self.matchers)

    def narrowed(self, label: str, op: str, text: str) -> "Selector":
        """The same with one more matcher."""
        return Selector(self.name, (*self.matchers, _matcher(label, op, text, str(self))))

    def __str__(self) -> str:
        inner = ", ".join(str(matcher) for matcher in self.matchers)
        return f"{self.name}{{{inner}}}" if inner else self.name


def quoted(text: str) -> str:
    """`text` as a PromQL string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def base_of(histogram: str) -> Selector:
    """A histogram by its base name, whichever of its metrics is named."""
    named = parse_selector(histogram)
    return named.renamed(_SUFFIX.sub("", named.name))


def bucket_at(histogram: Selector, over: float) -> Selector:
    """A histogram's bucket of what took at most `over` seconds. Servers write an edge as they like: `1` or `1.0`."""
    spellings = sorted({f"{over:g}", repr(float(over))})
    pattern = "|".join(re.escape(spelling) for spelling in spellings)
    return histogram.renamed(f"{histogram.name}_bucket").narrowed("le", "=~", pattern)


@lru_cache(maxsize=1024)
def parse_selector(expression: str) -> Selector:
    """The selector that `expression` is; raises NotASelector with the reason when it is anything else."""
    text = expression.strip()
    named = _NAME.match(text)
    name = named.group(0) if named else ""
    rest = text[len(name) :].strip()
    matchers: List[Matcher] = []
    if rest:
        if not (rest.startswith("{") and rest.endswith("}")):
            raise _wrong(expression, f"it goes on with {rest[:20]!r} after the metric's name")
        name, matchers = _inside(rest[1:-1], name, expression)
    if not name:
        raise _wrong(expression, "it does not name a metric")
    return Selector(name, tuple(matchers))


def is_selector(expression: str) -> bool:
    try:
        parse_selector(expression)
    except NotASelector:
        return False
    return True


def _inside(body: str, name: str, expression: str) -> Tuple[str, List[Matcher]]:
    """The name and the matchers that stand between the braces."""
    matchers: List[Matcher] = []
    at = 0
    quoted_name = _QUOTED_NAME.match(body)
    if quoted_name and not name:
        name, at = _unquoted(quoted_name.group("text")), quoted_name.end()
    while body[at:].strip():
        found = _MATCHER.match(body, at)
        if found is None:
            raise _wrong(expression, f'{body[at:].strip()[:30]!r} is not label="value"')
        label, op, text = _label(found.group("label")), found.group("op"), _unquoted(found.group("text"))
        at = found.end()
        if label == "__name__" and op == "=" and not name:
            name = text
        else:
            matchers.append(_matcher(label, op, text, expression))
    return name, matchers


def _matcher(label: str, op: str, text: str, expression: str) -> Matcher:
    if label == "__name__":
        raise _wrong(expression, "the metric is named once, by = alone")
    try:
        pattern = re.compile(text if op.endswith("~") else re.escape(text), re.DOTALL)
    except re.error as error:
        raise _wrong(expression, f"{text!r} is not a regular expression ({error})") from None
    return Matcher(label, op, text, pattern)


def _label(text: str) -> str:
    return _unquoted(text) if text.startswith('"') else text


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape.group(1), escape.group(1)), text[1:-1], flags=re.DOTALL)


def _wrong(expression: str, reason: str) -> NotASelector:
    return NotASelector(
        f"{expression!r} is not a selector: {reason}", mend='Write it like http_requests_total{code=~"5.."}'
    )
