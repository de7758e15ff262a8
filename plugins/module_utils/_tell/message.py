# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are told: one message, the same for every channel. Pure; the clock and the id come in as arguments.

Every text in it is clean: one line, bounded, without what looks like a secret. So it may be kept and sent as it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._errors import OptionError, nearest
from .._guard.chain import canonical, decode
from .._guard.decision import ROLLBACK
from .._guard.memory import RECOVERED
from .._guard.model import DONE, OPEN, UNDONE, UNRESOLVED, Rollout, environment_of
from .._guard.rollouts import ACTION
from .._guard.story import back_on, figures, story
from .text import address, clean

Facts = Mapping[str, Any]

# an event and how bad it is when nobody says
EVENTS: Mapping[str, str] = {
    "started": "info",
    "done": "info",
    "held": "warning",
    "undone": "warning",
    "unresolved": "critical",
    "rolled_back": "warning",
    "denied": "warning",
    "recommended": "warning",
    "approved": "info",
    "paused": "info",
    "resumed": "info",
    "page": "critical",
    "resolved": "info",
}
SEVERITIES = ("info", "warning", "error", "critical")
# what a caller may say; everything else comes from the rollout
FACTS = (
    "event",
    "service",
    "environment",
    "severity",
    "summary",
    "code",
    "runbook",
    "verdict",
    "from_release",
    "to_release",
    "outcome",
    "rollout",
    "entry",
    "incident",
    "dedup_key",
    "at",
    "links",
    "why",
)
# what a registered result brings along, and says nothing to people
_PASSED_OVER = ("changed", "failed", "msg", "warnings", "deprecations", "exception", "lease")
LONG, MEDIUM, SHORT, LINK, LINKS = 1000, 500, 200, 1000, 5
_DEDUP = 255  # PagerDuty's limit, and long enough for everybody
TRIGGER, ACKNOWLEDGE, RESOLVE = "trigger", "acknowledge", "resolve"


@dataclass(frozen=True)
class Message:
    """`at` is in epoch seconds; `dedup_key` is the same for all messages about one incident of one service.

    `verdict` is `{verdict, reason, gate, figures}`, as far as there is one; `entry` is the ledger's, such as
    `17 (3fa9c1d2b4e5)`; `links` are pairs of address and text. `settled` says that nothing is left for a person to do.
    """

    id: str
    service: str
    event: str
    severity: str
    summary: str
    at: float
    dedup_key: str
    environment: str = ""
    code: str = ""
    runbook: str = ""
    verdict: Mapping[str, str] = field(default_factory=dict)
    from_release: str = ""
    to_release: str = ""
    outcome: str = ""
    rollout: str = ""
    entry: str = ""
    links: Tuple[Tuple[str, str], ...] = ()
    settled: bool = False


def message_of(facts: Facts, *, ident: str, now: float, secrets: Iterable[str] = ()) -> Message:
    """The message about `facts`: a rollout as the ledger keeps it, or words of your own (FACTS), or both.

    With a `rollout` in the facts, or when they are one themselves, it says what happened; what else is given counts
    more. OptionError for an event or a severity that there is not, and when nobody says what happened or to what.
    """
    known = list(secrets)
    told = decode(canonical(facts))  # masks what stands under the name of a secret
    rollout = _rollout(told)
    given = {**_derived(rollout), **_given(told, rollout)}
    event = _one_of(given.get("event"), EVENTS, "event")
    severity = _one_of(given.get("severity") or _severity(event, rollout), SEVERITIES, "severity")
    service = clean(given.get("service") or "", SHORT, known)
    if not service:
        raise OptionError("the facts do not say which service they are about", mend="Set service, or give a rollout")

    def text(name: str, limit: int) -> str:
        value = given.get(name)
        return "" if value is None else clean(value, limit, known)

    return Message(
        id=ident,
        service=service,
        event=event,
        severity=severity,
        summary=text("summary", LONG) or text("why", LONG) or f"{service}: {event.replace('_', ' ')}",
        at=_instant(given.get("at"), now),
        dedup_key=_dedup_key(given, service, known),
        environment=text("environment", SHORT) or environment_of(service),
        code=text("code", SHORT),
        runbook=address(given.get("runbook") or "", LINK, known),
        verdict=_verdict(given.get("verdict"), known),
        from_release=text("from_release", SHORT),
        to_release=text("to_release", SHORT),
        outcome=text("outcome", MEDIUM),
        rollout=text("rollout", SHORT),
        entry=_entry(given.get("entry"), known),
        links=_links(given.get("links"), known),
        settled=_settled(event, rollout, given),
    )


def unknown_facts(facts: Facts) -> Sequence[str]:
    """Warnings about words among the facts that mean nothing here, with the nearest that does."""
    known = {*FACTS, *_PASSED_OVER, *(one.name for one in fields(Rollout))}
    odd = sorted(str(name) for name in facts if name not in known and not str(name).startswith("_"))
    return [f"notify knows no fact {clean(name, SHORT)!r}{nearest(name, FACTS)}" for name in odd]


def as_document(message: Message) -> Dict[str, object]:
    """The message as JSON."""
    return {**asdict(message), "verdict": dict(message.verdict), "links": [list(link) for link in message.links]}


def from_document(document: Mapping[str, object]) -> Message:
    """What `as_document` made; ValueError when it is not that any more."""
    try:
        given: Dict[str, Any] = {one.name: document[one.name] for one in fields(Message) if one.name in document}
        given["links"] = tuple((str(href), str(text)) for href, text in given.get("links") or ())
        message = Message(**{**given, "verdict": dict(given.get("verdict") or {})})
    except TypeError as error:
        raise ValueError(str(error)) from None
    texts = [value for name, value in vars(message).items() if name not in ("at", "links", "settled", "verdict")]
    if not all(isinstance(text, str) for text in (*texts, *message.verdict.values())):
        raise ValueError("not a message: a text is none")
    if message.event not in EVENTS or message.severity not in SEVERITIES or not isinstance(message.at, (int, float)):
        raise ValueError("not a message: there is no such event, severity or time")
    return message


def incident_action(message: Message) -> str:
    """What the message means for an incident: trigger, acknowledge or resolve."""
    if message.settled:
        return RESOLVE
    return ACKNOWLEDGE if message.event == "approved" else TRIGGER


def rows(message: Message) -> List[Tuple[str, str]]:
    """What a person reads beside the summary, as pairs of name and value, without what is not known."""
    verdict = ", ".join(message.verdict[name] for name in ("verdict", "reason") if message.verdict.get(name))
    change = " → ".join(release for release in (message.from_release, message.to_release) if release)
    pairs = [
        ("Service", message.service),
        ("Environment", message.environment),
        ("Event", message.event.replace("_", " ")),
        ("Code", message.code),
        ("Release", change),
        ("Verdict", verdict),
        ("Figures", message.verdict.get("figures", "")),
        ("Outcome", message.outcome),
        ("Rollout", message.rollout),
        ("Ledger entry", message.entry),
    ]
    return [(name, value) for name, value in pairs if value]


def addresses(message: Message) -> List[Tuple[str, str]]:
    """All links with their texts, the runbook first."""
    return [*([(message.runbook, "Runbook")] if message.runbook else []), *message.links]


def _rollout(told: Facts) -> Optional[Rollout]:
    """The rollout among the facts, or the facts themselves when they are one."""
    inner = told.get("rollout")
    raw = inner if isinstance(inner, Mapping) else told if {"id", "release", "state"} <= set(told) else None
    if raw is None:
        return None
    parts = {name: raw.get(name) for name in ("intent", "outcome")}
    mappings = {name: value if isinstance(value, Mapping) else {} for name, value in parts.items()}
    ident, service, release, state = (str(raw.get(name) or "") for name in ("id", "service", "release", "state"))
    at = _instant(raw.get("updated_at"), 0.0)
    kind = str(raw.get("kind") or "")
    return Rollout(ident, service, release, kind, state, 0, at, at, mappings["intent"], outcome=mappings["outcome"])


def _given(told: Facts, rollout: Optional[Rollout]) -> Dict[str, Any]:
    given = {name: told[name] for name in FACTS if told.get(name) not in (None, "", {}, [])}
    if isinstance(given.get("rollout"), Mapping):
        del given["rollout"]
    if isinstance(given.get("outcome"), Mapping):  # a rollout's own
        del given["outcome"]
    return given


def _derived(rollout: Optional[Rollout]) -> Dict[str, Any]:
    """What a rollout says of itself."""
    if rollout is None:
        return {}
    bake = rollout.outcome.get("bake")
    old, new = _change(rollout)
    return {
        "event": _event(rollout),
        "service": rollout.service,
        "summary": _story(rollout),
        "verdict": {**bake, "figures": _figures(rollout.outcome)} if isinstance(bake, Mapping) else None,
        "from_release": old,
        "to_release": new,
        "outcome": " ".join(filter(None, (rollout.state, _verified(rollout)))).replace("_", " "),
        "rollout": rollout.id,
        "incident": rollout.intent.get("trigger") if rollout.kind == ACTION else None,
        "at": rollout.updated_at or None,
    }


def _event(rollout: Rollout) -> str:
    if rollout.state == OPEN:
        return "started"
    if rollout.outcome.get("given_up"):
        return "unresolved"
    if rollout.kind == ACTION and (rollout.state != DONE or _verified(rollout) not in ("", RECOVERED)):
        return "page"
    return "rolled_back" if rollout.kind == ROLLBACK and rollout.state == DONE else rollout.state


def _change(rollout: Rollout) -> Tuple[str, str]:
    """From which release to which, as far as it is known."""
    before = rollout.intent.get("before")
    old = ", ".join(sorted({str(one) for one in before.values()})) if isinstance(before, Mapping) else ""
    if rollout.kind not in (ROLLBACK, "canary", "watch"):
        return "", ""  # a restart and the like change no release
    if rollout.kind == ROLLBACK or rollout.state in (UNDONE, UNRESOLVED):
        target = ", ".join(back_on(rollout.outcome)) or old
        return ("" if rollout.release == target else rollout.release), target
    return old, rollout.release


def _story(rollout: Rollout) -> str:
    if rollout.state == OPEN:
        return f"{rollout.service}: the {rollout.kind} of {rollout.release} has begun"
    try:
        return story(rollout)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        # facts that no rollout of ours wrote; an odd outcome must not keep the news back
        return f"{rollout.service}: {rollout.release} is {rollout.state}"


def _figures(outcome: Facts) -> str:
    try:
        return figures(outcome)
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""


def _verified(rollout: Rollout) -> str:
    verified = rollout.outcome.get("verified")
    return str(verified.get("verdict") or "") if isinstance(verified, Mapping) else ""


def _settled(event: str, rollout: Optional[Rollout], given: Facts) -> bool:
    if event not in ("undone", "rolled_back"):
        return event in ("done", "resolved")
    if rollout is not None:
        return _verified(rollout) == "recovered" and not rollout.outcome.get("left")
    return given.get("outcome") == "recovered"


def _severity(event: str, rollout: Optional[Rollout]) -> str:
    """An undo that did not help, or could not be seen to, is worse than one that did."""
    gone_back = event in ("undone", "rolled_back") and rollout is not None
    return "error" if gone_back and not _settled(event, rollout, {}) else EVENTS[event]


def _one_of(value: object, known: Iterable[str], what: str) -> str:
    if isinstance(value, str) and value in known:
        return value
    if value in (None, ""):
        raise OptionError(f"nobody says what {what} this is", mend=f"Set the {what}, or give a rollout")
    word = clean(value, SHORT)
    raise OptionError(f"there is no {what} {word!r}{nearest(word, known)}", mend=f"Take one of {', '.join(known)}")


def _instant(value: object, otherwise: float) -> float:
    """Epoch seconds within the years that a calendar has."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2.5e11
    return float(value) if number and isinstance(value, (int, float)) else otherwise


def _dedup_key(given: Facts, service: str, secrets: Sequence[str]) -> str:
    """`service/incident`: the rollout is the incident; without one the caller's word for it, the code, or the event."""
    key = given.get("dedup_key")
    if not key:
        about = given.get("incident") or given.get("rollout") or given.get("code") or given.get("event")
        key = f"{service}/{about}"
    fit = clean(key, 10 * _DEDUP, secrets)
    return fit if len(fit) <= _DEDUP else sha256(fit.encode()).hexdigest()


def _verdict(value: object, secrets: Sequence[str]) -> Dict[str, str]:
    if isinstance(value, str):
        return {"verdict": clean(value, SHORT, secrets)}
    if not isinstance(value, Mapping):
        return {}
    told = {
        name: clean(value[name], MEDIUM, secrets)
        for name in ("verdict", "reason", "gate", "figures")
        if value.get(name)
    }
    return {name: text for name, text in told.items() if text}


def _entry(value: object, secrets: Sequence[str]) -> str:
    if isinstance(value, Mapping):
        seq, digest = value.get("seq"), clean(value.get("hash") or "", SHORT)[:12]
        return clean(f"{seq} ({digest})" if digest else str(seq or ""), SHORT, secrets)
    return "" if value is None else clean(value, SHORT, secrets)


def _links(value: object, secrets: Sequence[str]) -> Tuple[Tuple[str, str], ...]:
    """Each link is an address, or `{href, text}`; what is no link is left out."""
    links: List[Tuple[str, str]] = []
    for one in value[: 4 * LINKS] if isinstance(value, list) else []:
        href, text = (one.get("href"), one.get("text")) if isinstance(one, Mapping) else (one, None)
        shown = address(href or "", LINK, secrets)
        if shown:
            links.append((shown, clean(text or shown, SHORT, secrets)))
    return tuple(links[:LINKS])
