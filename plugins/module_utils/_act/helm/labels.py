# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a revision of a Helm release remembers of our release, as labels of Helm's own storage object. Pure.

Helm writes that object anew whenever a revision changes its state: annotations are lost then, labels stay. But labels
are also handed on, to the revision of the next `helm upgrade` and to that of a `helm rollback`. So the label `revision`
says which revision the others were written for; see `helm_history` for what that means.

A label's value has at most 63 of few characters: any other character becomes `_` and its two hexadecimal digits.
"""

from __future__ import annotations

import calendar
import re
import time
from typing import Dict, List, Mapping, Optional

from ..._errors import OptionError
from ..kube.names import PREFIX
from ..model import Bad, Good, Journal, Release, release_id

REVISION = "revision"
TOKEN = "token"
CONTENT = "content"
SALT = "salt"
# the known good at the time of the deploy, for when Helm has pruned it from its history
GOOD_WAS = "good-was"
GOOD_WAS_REVISION = "good-was-revision"
_REASON = ("reason", "reason-2", "reason-3", "reason-4")
_RELEASE = ("release", "version", "by", "rollback", CONTENT, SALT, "good", "good-rollout", "bad", *_REASON)
_JOURNAL = (REVISION, "state", "before", "rollout", "at")
KEYS = (*_RELEASE, *_JOURNAL, TOKEN, GOOD_WAS, GOOD_WAS_REVISION)

_LONGEST = 63
_ESCAPED = re.compile(r"(?:_[0-9a-f]{2})+")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
_RESERVED = re.compile(r"revision-\d+\Z")
_SHIFT = "x__"  # before a text whose first character no label begins with

Labels = Mapping[str, str]  # without their prefix


def encode(text: str) -> str:
    """`text` as the value of a label, but for its length."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in ".-") else _escape(char) for char in text)
    if plain and not plain[-1].isalnum():
        plain = plain[:-1] + _escape(plain[-1])
    if plain and not plain[0].isalnum():
        plain = _SHIFT + plain
    # Helm takes this word for the wish to remove the label
    return plain if plain != "null" else "nul_6c"


def decode(value: str) -> str:
    """What `encode` was given."""
    value = value[len(_SHIFT) :] if value.startswith(_SHIFT) else value
    return _ESCAPED.sub(lambda found: _bytes(found.group()).decode("utf-8", "replace"), value)


def fits(text: str, option: str) -> str:
    """`text`, an id that is kept as a label; OptionError where it is none, or too long for one."""
    release_id(text, option)
    if len(encode(text)) > _LONGEST:
        raise OptionError(
            f"{option} {text!r} is too long for a label of Kubernetes",
            mend=f"Use at most {_LONGEST} characters; each _, + and ~ counts as three",
        )
    return text


def fresh(text: str) -> str:
    """`text`, when it can be the id of a release that we deploy."""
    if _RESERVED.match(text):
        raise OptionError(
            f"release {text!r} is how a revision is called that nobody named", mend="Give the release another id"
        )
    return fits(text, "release")


def unnamed(number: int) -> str:
    """The id of a revision that nobody named."""
    return f"revision-{number}"


def release_labels(release: Release, *, content: str = "", salt: str = "") -> Dict[str, str]:
    """Everything that is known of a release; the labels that it does not need are left out."""
    good, bad = release.known_good, release.bad
    told = {
        "release": encode(release.id),
        "version": _short(release.version),
        "by": _short(release.by),
        "rollback": release.rollback if release.blocked else "",
        CONTENT: content,
        SALT: salt,
        "good": _stamp(good.at) if good else "",
        "good-rollout": encode(good.rollout) if good else "",
        "bad": _stamp(bad.at) if bad else "",
        **dict(zip(_REASON, _pieces(bad.reason, len(_REASON)) if bad else ())),
    }
    return {key: value for key, value in told.items() if value}


def release_of(labels: Labels) -> Release:
    """The release of these labels; `complete` and `deployed_at` are the history's to say."""
    good, bad = _time(labels, "good"), _time(labels, "bad")
    return Release(
        id=decode(labels.get("release", "")),
        version=decode(labels.get("version", "")),
        by=decode(labels.get("by", "")),
        digest=labels.get(CONTENT, ""),
        known_good=None if good is None else Good(good, decode(labels.get("good-rollout", ""))),
        bad=None if bad is None else Bad(bad, "".join(decode(labels.get(key, "")) for key in _REASON)),
        rollback=labels.get("rollback") or "allowed",
    )


def journal_labels(journal: Journal, number: int) -> Dict[str, str]:
    """How revision `number` came to be; its phase is Helm's to say."""
    told = {
        REVISION: str(number),
        "state": journal.state,
        "before": encode(journal.before or ""),
        "rollout": encode(journal.rollout),
        "at": _stamp(journal.at),
    }
    return {key: value for key, value in told.items() if value}


def journal_facts(labels: Labels) -> Dict[str, object]:
    """`state`, `before`, `rollout` and `token` as `Journal.from_dict` takes them, of a revision's own labels."""
    return {
        "state": labels.get("state", ""),
        "before": decode(labels.get("before", "")),
        "rollout": decode(labels.get("rollout", "")),
        "at": _time(labels, "at") or 0.0,
        "token": token_of(labels),
    }


def of_release(labels: Labels) -> Dict[str, str]:
    """The labels that tell of the release, and not of how this revision came to be."""
    return {key: labels[key] for key in _RELEASE if key in labels}


def how_it_came(labels: Labels) -> Dict[str, str]:
    """All the other labels of ours."""
    return {key: value for key, value in labels.items() if key in KEYS and key not in _RELEASE}


def token_of(labels: Labels) -> Optional[int]:
    told = labels.get(TOKEN, "")
    return int(told) if told.isdecimal() else None


def ours(labels: Mapping[str, str]) -> Dict[str, str]:
    """Our labels among an object's, without their prefix."""
    known = {PREFIX + key: key for key in KEYS}
    return {known[key]: value for key, value in labels.items() if key in known}


def change(before: Labels, after: Labels) -> Dict[str, Optional[str]]:
    """The labels, with their prefix, that a merge patch has to set, or with None to remove."""
    gone: Dict[str, Optional[str]] = {PREFIX + key: None for key in before if key not in after}
    return {**gone, **{PREFIX + key: value for key, value in after.items() if before.get(key) != value}}


def epoch(told: str) -> float:
    """Helm's and Kubernetes' time, `2026-11-21T12:12:33.727067817Z`, in epoch seconds; 0 where it is none."""
    found = _TIME.match(told)
    if not found:
        return 0.0
    whole, fraction, zone = found.groups()
    shift = 0 if zone == "Z" else (int(zone[1:3]) * 3600 + int(zone[4:]) * 60) * (-1 if zone[0] == "-" else 1)
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - shift + float(fraction or 0)


def _escape(char: str) -> str:
    return "".join(f"_{byte:02x}" for byte in char.encode("utf-8"))


def _bytes(escaped: str) -> bytes:
    return bytes(int(part, 16) for part in escaped.split("_")[1:])


def _short(text: str) -> str:
    return "".join(_pieces(text, 1))


def _pieces(text: str, most: int) -> List[str]:
    """`text` as the values of at most `most` labels; what is longer is cut off."""
    pieces: List[str] = []
    while text and len(pieces) < most:
        size = next(size for size in range(min(len(text), _LONGEST), 0, -1) if len(encode(text[:size])) <= _LONGEST)
        pieces.append(encode(text[:size]))
        text = text[size:]
    return pieces


def _stamp(at: float) -> str:
    return f"{at:.3f}"


def _time(labels: Labels, key: str) -> Optional[float]:
    try:
        return float(labels[key])
    except (KeyError, ValueError):
        return None
