# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's objects remember of releases. Pure: objects in, annotations out.

A revision (a ReplicaSet, a ControllerRevision) carries the Release that it is; it survives the controller and goes
when Kubernetes prunes the revision. The workload carries the highest fencing token and the journal. Kubernetes copies
a Deployment's annotations to its newest ReplicaSet, so a mark that says something of one revision is never written to
the workload.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Dict, Mapping, Optional

from ..model import Journal, Release
from .names import JOURNAL, RELEASE, ROLLBACK, TOKEN

Object = Mapping[str, Any]


def notes_of(thing: Object) -> Mapping[str, str]:
    return (thing.get("metadata") or {}).get("annotations") or {}


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def release_of(revision: Object) -> Optional[Release]:
    """The release that somebody said this revision is; None when nobody did, or when it cannot be read.

    A mark that names another revision was copied: `kubectl rollout undo` takes a revision's annotations to the
    workload, and from there they go to the next revision.
    """
    told = _json(notes_of(revision).get(RELEASE))
    if told.get("revision", name_of(revision)) != name_of(revision):
        return None
    release = Release.from_dict(told) if told else None
    return release if release is not None and release.id else None


def named(revision: Object) -> Release:
    """The revision as a release: as marked, else by its own name, of which nothing is known but that it is there."""
    return release_of(revision) or Release(id=name_of(revision), complete=True)


def declared(release: Release, template: Object, revision: Object) -> Release:
    """The release with what its author says of going back from it, in the pod template or on the workload.

    Kubernetes copies the workload's annotations to the revision that is the newest then, and leaves them there.
    """
    said = notes_of(template).get(ROLLBACK) or notes_of(revision).get(ROLLBACK)
    return replace(release, rollback=said) if said in ("allowed", "blocked") else release


def release_mark(release: Release, revision: str = "") -> Dict[str, str]:
    """The annotation that makes a revision this release; with its name it holds for no other one."""
    named_too = {"revision": revision} if revision else {}
    return {RELEASE: _text({**release.as_dict(), **named_too})}


def journal_of(workload: Object) -> Optional[Journal]:
    told = _json(notes_of(workload).get(JOURNAL))
    return Journal.from_dict(told) if told else None


def token_of(workload: Object) -> Optional[int]:
    """The highest fencing token that was seen here."""
    told = notes_of(workload).get(TOKEN, "")
    return int(told) if told.isdecimal() else None


def pending_of(workload: Object) -> Optional[Release]:
    """The release that the last change brings, with its template's digest: its revision may not be marked yet."""
    told = _json(notes_of(workload).get(JOURNAL)).get("release")
    return Release.from_dict(told) if isinstance(told, dict) and told.get("id") else None


def workload_marks(journal: Journal, token: Optional[int], release: Optional[Release] = None) -> Dict[str, str]:
    """The annotations that go with a change to the workload, in the same patch."""
    pending = {"release": release.as_dict()} if release else {}
    marks = {JOURNAL: _text({**journal.as_dict(), **pending})}
    return marks if token is None else {**marks, TOKEN: str(token)}


def owner_uid(thing: Object) -> str:
    """The uid of the controller that owns this object, or nothing."""
    owners = (thing.get("metadata") or {}).get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def _text(facts: Mapping[str, object]) -> str:
    """JSON without any character that JSON may write in two ways: a patch's `test` compares a text byte by byte."""
    told = json.dumps(facts, sort_keys=True)
    for character in "<>&":  # which Go escapes and Python does not
        told = told.replace(character, f"\\u{ord(character):04x}")
    return told


def _json(text: Optional[str]) -> Dict[str, Any]:
    """Annotations are other people's to write: what is not ours is nothing."""
    try:
        told = json.loads(text or "null")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
