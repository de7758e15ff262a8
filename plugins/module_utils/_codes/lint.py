# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a catalogue beyond its form: a code keeps its meaning for ever, and its message keeps our secrets.

Whatever reads a code years later, a log, a ticket or an old binary, must find what it stood for. So no code
changes its class, title or beginning, none is removed, and none comes back to life.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator, List, Optional, Sequence, Tuple

from .._errors import nearest
from .catalogue import read
from .model import ERROR, WARNING, Catalogue, Code, Problem

# in a message for end users they tell how the service is built, or that a program was careless
INTERNAL_WORDS = (
    "core dump",
    "coredump",
    "database",
    "errno",
    "exception",
    "hostname",
    "http 500",
    "java.",
    "kubernetes",
    "localhost",
    "microservice",
    "null pointer",
    "nullpointer",
    "panic",
    "pod",
    "postgres",
    "segfault",
    "sql",
    "stack trace",
    "stacktrace",
    "traceback",
    "undefined",
)
_CODE_LIKE = re.compile(r"\b[A-Z][A-Z0-9]+-[A-Z][A-Z0-9]+-[0-9]{3}\b", re.IGNORECASE)
_ADDRESS = re.compile(r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b|https?://\S*(?:\.internal|\.local|\.svc)\b", re.IGNORECASE)


def lint(text: str, where: str, previous: Optional[str] = None, *, reworded: Sequence[str] = ()) -> List[Problem]:
    """Everything that is wrong with the catalogue `text`, in the order of the lines.

    `previous` is the text that was committed last, None where there is none; the titles of the codes in `reworded`
    say the same as before in other words.
    """
    catalogue, problems = read(text, where)
    problems += _replacements(catalogue, problems)
    problems += _messages(catalogue)
    problems += _unknown(catalogue, reworded)
    # a catalogue that cannot be read at all has not lost its codes
    if previous is not None and not any(problem.rule == "syntax" for problem in problems):
        problems += _compared(text, catalogue, problems, previous, reworded)
    return sorted(problems, key=lambda problem: problem.line)


def _unknown(catalogue: Catalogue, reworded: Iterable[str]) -> Iterator[Problem]:
    for name in reworded:
        if name not in catalogue.codes:
            near = nearest(name, catalogue.codes)
            yield Problem(1, name[:60], "unknown_code", f"reworded names an unknown code{near}", "Correct reworded")


def _replacements(catalogue: Catalogue, problems: Sequence[Problem]) -> Iterator[Problem]:
    named = {problem.key.partition(".")[0] for problem in problems} | set(catalogue.codes)
    for code in catalogue.codes.values():
        other = catalogue.codes.get(code.replaced_by)
        key = f"{code.name}.replaced_by"
        if code.replaced_by and code.replaced_by not in named:
            text = f"there is no code {code.replaced_by}{nearest(code.replaced_by, catalogue.codes)}"
            yield Problem(code.line_of("replaced_by"), key, "unknown_code", text, "Name a code of this catalogue")
        elif other is not None and other.deprecated:
            text = "it is replaced by itself" if other is code else f"{other.name} is deprecated, too"
            yield Problem(code.line_of("replaced_by"), key, "dead_replacement", text, "Name a code that is in use")


def _messages(catalogue: Catalogue) -> Iterator[Problem]:
    for code in catalogue.codes.values():
        for what, rule in _internal(code, catalogue.internal_words):
            text = f"end users would read {what}"
            mend = "Say in their words what happened and what they can do; the rest belongs into the runbook"
            yield Problem(code.line_of("public_message"), f"{code.name}.public_message", rule, text, mend)


def _internal(code: Code, own_words: Sequence[str]) -> Iterator[Tuple[str, str]]:
    """What of us the public message gives away."""
    message = code.public_message.lower()
    found = _CODE_LIKE.search(message)
    if found:
        yield "an error code", "code_in_message"
    if _ADDRESS.search(message):
        yield "an address of ours", "internal_word"
    # an owner called "shop" is a word like any other
    if not code.owner.isalpha() and _has(message, code.owner):
        yield "who owns the code", "internal_word"
    for word in dict.fromkeys((*INTERNAL_WORDS, *own_words)):
        if _has(message, word):
            yield f"the internal word {word!r}", "internal_word"


def _has(message: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word.lower())}(?!\w)", message) is not None


def _compared(
    text: str, catalogue: Catalogue, problems: Sequence[Problem], previous: str, reworded: Sequence[str]
) -> Iterator[Problem]:
    """What the last committed version does not allow."""
    before, unreadable = read(previous, "the committed version")
    if unreadable:
        first = f"line {unreadable[0].line}, {unreadable[0].key}: {unreadable[0].text}"
        broken = f"the committed version has {len(unreadable)} mistakes of its own, the first in {first}"
        yield Problem(1, "codes", "previous", broken, "Only its readable codes were compared", WARNING)
    there = {problem.key.partition(".")[0] for problem in problems} | set(catalogue.codes)
    last = text.count("\n") + 1
    for old in before.codes.values():
        new = catalogue.codes.get(old.name)
        if new is not None:
            yield from _redefined(old, new, old.name in reworded)
        elif old.name not in there:
            mend = "Keep it, deprecated: what still runs sends it, and its number must not come to mean something else"
            yield Problem(last, old.name, "removed", "the code was removed", mend)


def _redefined(old: Code, new: Code, reworded: bool) -> Iterator[Problem]:
    mend = "Number a new meaning anew, and deprecate this code"
    if new.title != old.title and not reworded:
        text = f"the title was {old.title!r}"
        rewording = f"{mend}; other words for the same go into reworded"
        yield Problem(new.line_of("title"), f"{new.name}.title", "redefined", text, rewording)
    for key, before, after in (("class", old.kind, new.kind), ("since", old.since, new.since)):
        if before != after:
            yield Problem(new.line_of(key), f"{new.name}.{key}", "redefined", f"the {key} was {before!r}", mend)
    if old.deprecated and not new.deprecated:
        text = f"it was deprecated in {old.deprecated}, and is no more"
        yield Problem(new.line_of("deprecated"), f"{new.name}.deprecated", "revived", text, "Number a new code")


def errors(problems: Iterable[Problem]) -> List[Problem]:
    return [problem for problem in problems if problem.level == ERROR]
