# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release of a service is the last known good one, by the ledger: what outlives the places' own marks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from .chain import MASK, canonical
from .decision import ROLLBACK
from .ledger import Ledger
from .model import DONE, UNDONE, Rollout

# what a place told at a promotion, and what restores the release where the place has forgotten it
RECORDED = ("template", "images")
DEPLOYS = ("canary", "watch")  # the kinds of rollout that judge a release; the others act on one
_ROLLOUTS = 200
_ENTRIES = 1000


@dataclass(frozen=True)
class KnownGood:
    """A release that passed its bake, in `rollout`, at `at` (epoch seconds), and has not been found bad since.

    `recorded` is by place what was kept of it: the pod template and the images' digests of a cluster's workload.
    """

    service: str
    release: str
    rollout: str
    at: float
    by: str
    recorded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, object]:
        return {**vars(self), "recorded": {place: dict(kept) for place, kept in self.recorded.items()}}


def last_known_good(ledger: Ledger, service: str) -> Optional[KnownGood]:
    """By the newest rollout that was done and whose release no later one found bad; None when there is none."""
    bad: Set[str] = set()
    for rollout in ledger.last_rollouts(service, _ROLLOUTS):
        if passed(rollout) and rollout.release not in bad:
            kept = _recorded(ledger, rollout)
            return KnownGood(service, rollout.release, rollout.id, rollout.updated_at, rollout.by, kept)
        if failed(rollout):
            bad.add(rollout.release)
    return None


def found_bad(ledger: Ledger, service: str, release: str) -> Optional[str]:
    """Why the service's gates failed this release when it was tried last, or None when they did not."""
    for rollout in ledger.last_rollouts(service, _ROLLOUTS):
        if rollout.release == release and passed(rollout):
            return None
        if rollout.release == release and failed(rollout):
            return str(rollout.outcome.get("why") or rollout.intent.get("why") or "its gates failed")
    return None


def rolled_back(ledger: Ledger, service: str) -> List[str]:
    """The releases that were found bad and have not passed since: none of them is ever gone back to."""
    judged: Dict[str, bool] = {}
    for rollout in ledger.last_rollouts(service, _ROLLOUTS):
        if passed(rollout) or failed(rollout):
            judged.setdefault(rollout.release, failed(rollout))
    return sorted(release for release, bad in judged.items() if bad)


def kept_template(
    ledger: Ledger, service: str, place: str, release: str = ""
) -> Optional[Tuple[str, Mapping[str, Any]]]:
    """The release and the pod template that were recorded when it was promoted on this very place.

    Of `release`, or else of the newest one that was not found bad since; None when nothing was kept.
    """
    for body in _outcomes(ledger, service):
        told, template = body.get("current"), body.get("template")
        if body.get("place") != place or not isinstance(template, Mapping):
            continue
        if told == release or (not release and found_bad(ledger, service, str(told)) is None):
            return str(told), template
    return None


def known_services(ledger: Ledger) -> List[str]:
    """The services that the ledger knows rollouts of."""
    return sorted({rollout.service for rollout in ledger.last_rollouts("", _ROLLOUTS)})


def is_masked(kept: Mapping[str, Any]) -> bool:
    """Was something of it taken for a secret, so that it is not any more what ran?"""
    return MASK in canonical(kept)


def passed(rollout: Rollout) -> bool:
    return rollout.state == DONE and rollout.kind in DEPLOYS


def failed(rollout: Rollout) -> bool:
    """By the verdict of the play that undid it, or by the one that was recorded before its controller died.

    To roll a release back is to find it bad, from the moment of the intent on, whatever becomes of that rollback.
    """
    if ROLLBACK in (rollout.kind, rollout.intent.get("action")):  # or somebody's own play did
        return True
    if rollout.kind not in DEPLOYS or rollout.state != UNDONE:
        return False
    told, kept = rollout.outcome.get("bake"), rollout.progress.get("bake")
    if isinstance(told, Mapping) and told.get("verdict") == "fail":
        return True
    return isinstance(kept, Mapping) and kept.get("phase") == "failed" and kept.get("reason") != "aborted"


def _outcomes(ledger: Ledger, service: str) -> Iterator[Mapping[str, Any]]:
    """What places told of changes, newest first; at last what retention kept of the entries that it removed."""
    for entry in ledger.last_entries(service, _ENTRIES):
        if entry.kind == "outcome":
            yield entry.body
    retained = ledger.retained()
    kept = retained.body.get("recorded") if retained is not None else None
    for body in reversed(kept if isinstance(kept, list) else []):
        if body.get("service") == service:
            yield body


def _recorded(ledger: Ledger, rollout: Rollout) -> Dict[str, Dict[str, Any]]:
    found: Dict[str, Dict[str, Any]] = {}
    for body in _outcomes(ledger, rollout.service):
        if body.get("rollout") == rollout.id:
            kept = {name: body[name] for name in RECORDED if body.get(name) and not is_masked(body[name])}
            if kept:
                found.setdefault(str(body.get("place")), kept)
    return found
