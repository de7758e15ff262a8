# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error-code catalogue: a YAML text in, its codes out, and every mistake with its line and key.

    codes:
      SHOP-CART-001:
        title: The cart cannot be saved
        class: server
        owner: team-shop
        severity: critical
        retryable: true
        attributable: true
        response: [rollback, page]
        runbook: https://runbooks.example.org/SHOP-CART-001
        public_message: Your cart could not be saved. Please try again.
        since: "1.4.0"

Nothing in it is ever executed, expanded or matched as a pattern: its texts are data, one printable line each.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .._errors import OptionError, nearest
from .._judge.part import Part
from .lines import Item, Malformed, read_items
from .model import ACTIONS, CLASSES, CODE, SEVERITIES, Alerting, Catalogue, Code, Problem

__all__ = ["Catalogue", "Code", "load", "parse", "read", "read_text"]

TOP = ("codes", "internal_words")
REQUIRED = (
    "title",
    "class",
    "owner",
    "severity",
    "retryable",
    "attributable",
    "response",
    "runbook",
    "public_message",
    "since",
)
KEYS = (*REQUIRED, "deprecated", "replaced_by", "flag", "alert")
ALERT_KEYS = ("for", "keep_firing_for", "window", "min_count", "ratio")
_TEXTS = ("title", "owner", "public_message", "since", "deprecated", "flag")
_LONGEST = 300
_MONTH = 30 * 86400.0
# no user, no spaces, nothing that ends a link in Markdown, HTML or a template
_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(?:/[A-Za-z0-9._~%!$&'*+,;=:@/?#\-]*)?")


def load(path: str) -> Catalogue:
    """The catalogue in a file; raises OptionError with the line and the key of the first mistake."""
    return parse(read_text(path), path)


def parse(text: str, where: str = "the catalogue") -> Catalogue:
    """The same of a text, named `where` in messages."""
    catalogue, problems = read(text, where)
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more: see error_code_lint)" if len(problems) > 1 else ""
        raise OptionError(
            f"{where}, line {first.line}, {first.key}: {first.text}{more}",
            mend=first.mend,
            details={"problems": [problem.as_dict() for problem in problems]},
        )
    return catalogue


def read_text(path: str) -> str:
    """The file's text; raises OptionError where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise OptionError(f"{path} is not UTF-8 text (byte {error.start})", mend="Save it as UTF-8") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OptionError(f"the catalogue {path!r} cannot be read: {why}", mend="Name the YAML file") from None


def read(text: str, where: str) -> Tuple[Catalogue, List[Problem]]:
    """All codes that can be read, and everything that is wrong, in the order of the lines."""
    reader = _Reader()
    try:
        root = read_items(text)
    except Malformed as error:
        return Catalogue(where, {}), [Problem(error.line, "YAML", "syntax", error.problem, "Correct the YAML")]
    parts = reader.mapping(root, "the catalogue", TOP)
    if root.kind == "a mapping" and "codes" not in parts:
        reader.wrong(root, "codes", "missing", "there are no codes", f"Set codes{nearest('codes', _keys(root))}")
    words = reader.texts(parts.get("internal_words"), "internal_words")
    codes = reader.codes(parts.get("codes"))
    return Catalogue(where, codes, words), sorted(reader.problems, key=lambda problem: problem.line)


class _Reader:
    """Reads on after a mistake, and keeps what it found."""

    def __init__(self) -> None:
        self.problems: List[Problem] = []

    def wrong(self, item: Item, key: str, rule: str, text: str, mend: str) -> None:
        self.problems.append(Problem(item.line, key, rule, text, mend))

    def mapping(self, item: Item, where: str, known: Sequence[str], *, of: str = "") -> Dict[str, Item]:
        """The values by key, without those that are unknown or there twice."""
        if item.kind != "a mapping":
            self.wrong(item, where, "type", f"it must be a mapping, not {item.kind}", "Write it as key: value")
            return {}
        found: Dict[str, Item] = {}
        for key, value in item.pairs:
            name = _shown(key)
            full = f"{of}.{name}" if of else name
            if key.text not in known:
                text = f"unknown key {name}{nearest(name, known)}"
                self.wrong(key, full, "unknown_key", text, f"Known keys: {', '.join(known)}")
            elif key.text in found:
                self.wrong(key, full, "twice", f"{name} is there twice", "Keep one of them")
            else:
                found[key.text] = value
        return found

    def codes(self, item: Optional[Item]) -> Dict[str, Code]:
        codes: Dict[str, Code] = {}
        seen: Dict[str, int] = {}
        if item is not None and item.kind != "a mapping":
            self.wrong(item, "codes", "type", f"it must be a mapping, not {item.kind}", "Write it as CODE: {title: …}")
        for key, value in item.pairs if item is not None else ():
            name = _shown(key)
            if key.text in seen:
                text = f"the code is there twice, first in line {seen[key.text]}"
                self.wrong(key, name, "twice", text, "A code stands for one thing: number the other one anew")
            elif not CODE.fullmatch(key.text):
                text = f"{name} is not a code of the form DOMAIN-CATEGORY-NNN"
                self.wrong(key, name, "format", text, "Write it like SHOP-CART-001, in capitals")
            else:
                seen[key.text] = key.line
                code = self._code(key, value)
                if code is not None:
                    codes[key.text] = code
        return codes

    def _code(self, key: Item, item: Item) -> Optional[Code]:
        """One entry; None when anything is wrong with it."""
        before = len(self.problems)
        name = key.text
        parts = self.mapping(item, name, KEYS, of=name)
        for missing in REQUIRED if item.kind == "a mapping" else ():
            if missing not in parts and not self._mistyped(before, name, missing):
                self.wrong(key, f"{name}.{missing}", "missing", f"{missing} is missing", f"Set {missing}")
        texts = {part: self._text(parts, name, part) for part in _TEXTS}
        code = Code(
            name,
            texts["title"],
            self._choice(parts, name, "class", CLASSES),
            texts["owner"],
            self._choice(parts, name, "severity", SEVERITIES),
            self._flag(parts, name, "retryable"),
            self._flag(parts, name, "attributable"),
            self._response(parts, name),
            self._runbook(parts, name),
            texts["public_message"],
            texts["since"],
            texts["deprecated"],
            self._replacement(parts, name),
            texts["flag"],
            self._alerting(parts, name),
            {"": key.line, **{part: value.line for part, value in parts.items()}},
        )
        return code if len(self.problems) == before else None

    def _mistyped(self, since: int, name: str, key: str) -> bool:
        """Has an unknown key been told already that may be this one? One mistake is told once."""
        told = [problem for problem in self.problems[since:] if problem.rule == "unknown_key"]
        return any(f"did you mean {key!r}" in problem.text for problem in told if problem.key.startswith(name))

    def _text(self, parts: Mapping[str, Item], name: str, key: str) -> str:
        item = parts.get(key)
        return "" if item is None else self.text(item, f"{name}.{key}", any_scalar=key in ("since", "deprecated"))

    def text(self, item: Item, where: str, *, any_scalar: bool = False) -> str:
        """One printable line; a version such as 1.10 is taken as it is written, although YAML sees a number in it."""
        if item.kind != "text" and not (any_scalar and item.kind == "a number"):
            self.wrong(item, where, "type", f"it must be text, not {item.kind}", "Write it as text, in quotes")
        elif not item.text.strip():
            self.wrong(item, where, "empty", "it is empty", "Write what it says")
        elif not item.text.isprintable():
            self.wrong(item, where, "unprintable", "it has a line break or a control character", "Write one line")
        elif len(item.text) > _LONGEST:
            text = f"it has {len(item.text)} characters, at most {_LONGEST} are taken"
            self.wrong(item, where, "long", text, "Say it shorter; the rest belongs into the runbook")
        return item.text.strip()

    def texts(self, item: Optional[Item], where: str) -> Tuple[str, ...]:
        if item is None:
            return ()
        if item.kind != "a list":
            self.wrong(item, where, "type", f"it must be a list, not {item.kind}", "Write it as [one, two]")
        return tuple(self.text(each, where) for each in item.items)

    def _choice(self, parts: Mapping[str, Item], name: str, key: str, choices: Sequence[str]) -> str:
        item = parts.get(key)
        if item is None:
            return choices[0]
        self._one_of(item, f"{name}.{key}", choices)
        return item.text

    def _one_of(self, item: Item, where: str, choices: Sequence[str]) -> None:
        if item.kind != "text" or item.text not in choices:
            shown = f"{item.text[:60]!r}{nearest(item.text[:60], choices)}" if item.text else item.kind
            text = f"it must be one of {', '.join(choices)}, not {shown}"
            self.wrong(item, where, "choice", text, f"Correct {where.rpartition('.')[2]}")

    def _flag(self, parts: Mapping[str, Item], name: str, key: str) -> bool:
        item = parts.get(key)
        if item is None:
            return False
        if item.kind != "a boolean":
            shown = repr(item.text[:60]) if item.text else item.kind
            self.wrong(item, f"{name}.{key}", "type", f"it must be true or false, not {shown}", f"Correct {key}")
        return item.true

    def _response(self, parts: Mapping[str, Item], name: str) -> Tuple[str, ...]:
        item = parts.get("response")
        if item is None:
            return ()
        where = f"{name}.response"
        if item.kind != "a list" or not item.items:
            shown = "an empty list" if item.kind == "a list" else item.kind
            text = f"it must be a list of {', '.join(ACTIONS)}, not {shown}"
            self.wrong(
                item, where, "type", text, "Write it like [rollback, page]; page alone where nothing may be done"
            )
        for each in item.items:
            self._one_of(each, where, ACTIONS)
        actions = tuple(each.text for each in item.items)
        if len(set(actions)) < len(actions):
            self.wrong(item, where, "twice", "it names an action twice", "Name each once, in the order to try them")
        if "flag_off" in actions and "flag" not in parts:
            self.wrong(item, where, "no_flag", "flag_off needs to know which flag", f"Set {name}.flag")
        attributable = parts.get("attributable")
        if "rollback" in actions and attributable and attributable.kind == "a boolean" and not attributable.true:
            text = "rollback answers a code that no deploy can have caused"
            self.wrong(item, where, "not_attributable", text, "Set attributable: true, or leave rollback out")
        return actions

    def _runbook(self, parts: Mapping[str, Item], name: str) -> str:
        item = parts.get("runbook")
        if item is None:
            return ""
        url = self.text(item, f"{name}.runbook")
        if item.kind == "text" and url and not _URL.fullmatch(url):
            text = "it is not a plain http or https URL"
            mend = (
                "Write it like https://runbooks.example.org/SHOP-CART-001, without a user, and other characters as %XX"
            )
            self.wrong(item, f"{name}.runbook", "url", text, mend)
        return url

    def _replacement(self, parts: Mapping[str, Item], name: str) -> str:
        item = parts.get("replaced_by")
        if item is None:
            return ""
        if not CODE.fullmatch(item.text):
            self.wrong(item, f"{name}.replaced_by", "format", "it is not a code", "Write it like SHOP-CART-002")
        if "deprecated" not in parts:
            text = "a code that is not deprecated has no replacement"
            self.wrong(item, f"{name}.replaced_by", "not_deprecated", text, "Set deprecated to the version since when")
        return item.text

    def _alerting(self, parts: Mapping[str, Item], name: str) -> Alerting:
        item = parts.get("alert")
        where = f"{name}.alert"
        usual = Alerting()
        given = {} if item is None else self.mapping(item, where, ALERT_KEYS, of=where)
        figures: Dict[str, float] = {}
        for key, value in given.items():
            if value.kind not in ("text", "a number"):
                text = f"it must be a number or a duration, not {value.kind}"
                self.wrong(value, f"{where}.{key}", "type", text, f"Correct {key}")
                continue
            part = Part(where, {key: value.text}, ALERT_KEYS)
            try:
                if key == "min_count":
                    figures[key] = part.whole(key, usual.min_count, least=1)
                elif key == "ratio":
                    figures[key] = part.number(key, usual.ratio, above=1.0)
                else:
                    figures[key] = part.seconds(key, 0.0, least=1.0 if key == "window" else 0.0)
                    if figures[key] > _MONTH:
                        self.wrong(value, f"{where}.{key}", "value", "it is longer than 30 days", f"Correct {key}")
            except OptionError as error:
                self.wrong(value, f"{where}.{key}", "value", error.what.partition(": ")[2], error.mend)
        return Alerting(
            figures.get("for", usual.hold),
            figures.get("keep_firing_for", usual.keep_firing_for),
            figures.get("window", usual.window),
            int(figures.get("min_count", usual.min_count)),
            figures.get("ratio", usual.ratio),
        )


def _shown(key: Item) -> str:
    """A key in a message: one printable line, whatever stands in the file."""
    if key.kind in ("a list", "a mapping"):
        return key.kind
    return key.text[:60] if key.text.isprintable() and key.text else repr(key.text[:60])


def _keys(item: Item) -> List[str]:
    return [key.text for key, _value in item.pairs]
