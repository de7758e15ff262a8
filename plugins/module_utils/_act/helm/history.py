# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of a Helm release, and what it says in our words. Pure: no I/O, no clock.

Which release a revision is: the one of its labels, when these were written for this revision; after a rollback, the one
of the revision that it went back to; else nobody named it, and it is called `revision-<number>`. A release can have
several revisions, because going back makes a new one; the newest says what is known of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Dict, List, Mapping, Optional, Tuple

from ..model import DEPLOYED, FAILED, KNOWN_GOOD, SETTLED, SWITCHING, Journal, Release, Situation
from .errors import bare
from .labels import (
    GOOD_WAS,
    GOOD_WAS_REVISION,
    REVISION,
    Labels,
    decode,
    journal_facts,
    of_release,
    release_of,
    token_of,
    unnamed,
)

# Helm's own words for the state of a revision
RUNS = "deployed"
PASSED = "superseded"
BROKEN = "failed"
REMOVED = "uninstalled"
UNDERWAY = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")

_ROLLED_BACK = re.compile(r"Rollback to (\d+)\Z")


@dataclass(frozen=True)
class Revision:
    """One revision, as Helm tells it, with our labels on its storage object and that object's resourceVersion.

    `updated` is when it was deployed, `since` when its state changed last, both in epoch seconds.
    """

    number: int
    status: str
    chart: str = ""
    app_version: str = ""
    description: str = ""
    updated: float = 0.0
    since: float = 0.0
    labels: Labels = field(default_factory=dict)
    pin: str = ""

    @property
    def sound(self) -> bool:
        """Was it rolled out whole, so that one can go back to it?"""
        return self.status in (RUNS, PASSED) and " failed: " not in self.description

    @property
    def underway(self) -> bool:
        return self.status in UNDERWAY

    @property
    def own(self) -> bool:
        """Were the labels written for this revision?"""
        return self.labels.get(REVISION) == str(self.number)

    @property
    def went_back_to(self) -> Optional[int]:
        found = _ROLLED_BACK.match(self.description)
        return int(found.group(1)) if found else None


@dataclass(frozen=True)
class History:
    """The revisions that Helm still has, oldest first; none where the Helm release is not there."""

    revisions: Tuple[Revision, ...] = ()

    @property
    def last(self) -> Optional[Revision]:
        return self.revisions[-1] if self.revisions else None

    @property
    def newest(self) -> int:
        return self.revisions[-1].number if self.revisions else 0

    def tip(self) -> Dict[str, object]:
        """Helm's own words for the newest revision, for results."""
        last = self.last
        return {
            "revision": last.number if last else None,
            "status": last.status if last else None,
            "chart": last.chart if last else None,
        }

    @cached_property
    def facts(self) -> Dict[int, Labels]:
        """For each revision, the labels that tell which release it is."""
        told: Dict[int, Labels] = {}
        earlier: Optional[Revision] = None
        for revision in self.revisions:
            told[revision.number] = _facts(revision, earlier, told)
            earlier = revision
        return told

    def id_of(self, revision: Revision) -> str:
        return decode(self.facts[revision.number]["release"])

    def sound(self, release: str) -> Optional[Revision]:
        """The newest revision of `release` that one can go back to."""
        facts = self.facts
        of_it = [each for each in self.revisions if each.sound and decode(facts[each.number]["release"]) == release]
        return of_it[-1] if of_it else None

    def brought_by(self, rollout: str) -> Optional[str]:
        """The release that `rollout` deployed here."""
        for revision in reversed(self.revisions):
            told = journal_facts(revision.labels)
            if rollout and revision.own and told["rollout"] == rollout and told["state"] == DEPLOYED:
                return self.id_of(revision)
        return None

    def situation(self) -> Situation:
        tokens = [token for token in (token_of(each.labels) for each in self.revisions) if token is not None]
        last = self.last
        return Situation(
            current=self.id_of(last) if last and last.status != REMOVED else None,
            releases=self._releases(),
            journal=self._journal(last) if last else None,
            token=max(tokens) if tokens else None,
        )

    def pruned_good(self) -> str:
        """`1.0.0 (revision 3)`, the known good that the last deploy had behind it, when Helm has pruned it."""
        told = self.last.labels if self.last else {}
        was = decode(told.get(GOOD_WAS, ""))
        return f"{was} (revision {told.get(GOOD_WAS_REVISION, '?')})" if was and not self.sound(was) else ""

    def marked(self, number: int, labels: Labels, pin: str = "") -> "History":
        """The same with other labels on one revision."""
        return History(
            tuple(
                replace(each, labels=dict(labels), pin=pin) if each.number == number else each
                for each in self.revisions
            )
        )

    def followed(self, revision: Revision) -> "History":
        """The same after one more revision, for check mode."""
        passed = tuple(
            replace(each, status=PASSED) if each.status in (RUNS, *UNDERWAY) else each for each in self.revisions
        )
        return History((*passed, revision))

    def _releases(self) -> Tuple[Release, ...]:
        facts = self.facts
        known: Dict[str, Release] = {}
        for revision in self.revisions:
            release = release_of(facts[revision.number])
            earlier = known.get(release.id)
            known[release.id] = replace(
                release,
                version=release.version or revision.app_version or revision.chart,
                deployed_at=earlier.deployed_at if earlier else revision.updated,
                complete=revision.sound or (earlier is not None and earlier.complete),
            )
        return tuple(sorted(known.values(), key=lambda release: (release.deployed_at, release.id), reverse=True))

    def _journal(self, last: Revision) -> Journal:
        current, earlier = self.id_of(last), self._before(last)
        phase = SETTLED if last.status in (RUNS, REMOVED) else SWITCHING if last.underway else FAILED
        found = Journal(
            state=KNOWN_GOOD if last.went_back_to else DEPLOYED,
            before=earlier,
            to=current,
            phase=phase,
            at=last.updated,
            problem=bare(last.description)[:500] if phase == FAILED else "",
        )
        if not last.own:
            return found
        told = Journal.from_dict({**journal_facts(last.labels), "to": current, "phase": phase})
        state, before = told.state or found.state, told.before or found.before
        return replace(told, state=state, before=before, at=told.at or found.at, problem=found.problem)

    def _before(self, last: Revision) -> Optional[str]:
        earlier: List[str] = [self.id_of(each) for each in self.revisions if each.number < last.number]
        current = self.id_of(last)
        return next((release for release in reversed(earlier) if release != current), None)


def _facts(revision: Revision, earlier: Optional[Revision], told: Mapping[int, Labels]) -> Labels:
    """The labels that tell which release `revision` is, in the light of those before it."""
    if revision.own and revision.labels.get("release"):
        return of_release(revision.labels)
    source = revision.went_back_to
    if source is None and revision.status == BROKEN and _handed_back(revision, earlier):
        source = int(revision.labels[REVISION])  # a rollback that failed does not say any more where it went
    if source is not None and source in told:
        return told[source]
    if source is not None and revision.labels.get(REVISION) == str(source) and revision.labels.get("release"):
        return of_release(revision.labels)  # that revision is pruned, but it left us its labels
    return {"release": unnamed(revision.number)}


def _handed_back(revision: Revision, earlier: Optional[Revision]) -> bool:
    """An upgrade takes the labels of the revision before it, so other ones come from where a rollback went to."""
    written_for = revision.labels.get(REVISION, "")
    return written_for.isdecimal() and earlier is not None and earlier.labels.get(REVISION) != written_for
