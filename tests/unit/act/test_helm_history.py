# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Helm's history and our labels on it mean, and what may be done to it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm import labels as helm_labels
from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm import plan as helm_plan
from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm.errors import bare, refused, unready
from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm.history import History, Revision
from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm.options import packed
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Bad, Good, Journal, Release, Rollback
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError

LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?\Z")  # as the API server checks it
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,19}", fullmatch=True)
GOOD = Good(1000.0, "r-1")


@given(IDS)
def test_an_id_comes_back_from_its_label(release: str) -> None:
    value = helm_labels.encode(release)
    assert LABEL.match(value) and value != "null"
    assert helm_labels.decode(value) == release


@given(st.text(max_size=60), st.text(max_size=300), IDS)
def test_a_release_comes_back_from_its_labels(version: str, reason: str, rollout: str) -> None:
    release = Release("1.0.0", version, known_good=Good(5.25, rollout), bad=Bad(7.5, reason), rollback="blocked")
    labels = helm_labels.release_labels(release)
    assert all(LABEL.match(value) and value for value in labels.values())
    found = helm_labels.release_of(labels)
    assert version.startswith(found.version) and found.bad and reason.startswith(found.bad.reason)
    assert replace(found, version=version, bad=release.bad) == release


def test_ids_that_no_label_can_hold() -> None:
    assert helm_labels.fresh("2.0.0+build_7~x") == "2.0.0+build_7~x"
    for bad in ("revision-7", "a" * 64, "+" * 5, "a" + "+" * 21, "", "a/b"):
        with pytest.raises(OptionError):
            helm_labels.fresh(bad)


def deployed(number: int, release: str, status: str = "superseded", *, good: bool = False, **extra: str) -> Revision:
    """A revision that we deployed."""
    known = Release(release, known_good=GOOD if good else None)
    labels = {**helm_labels.release_labels(known), "revision": str(number), "state": "deployed", **extra}
    return Revision(number, status, chart="shop-1", labels=labels, updated=float(number), since=float(number))


def by_hand(number: int, after: Revision, status: str = "deployed") -> Revision:
    """The revision of somebody's `helm upgrade`, which takes over the labels of the one before."""
    return Revision(number, status, chart="shop-1", labels=after.labels, updated=float(number), since=float(number))


def back(number: int, to: Revision, status: str = "deployed") -> Revision:
    """The revision of a `helm rollback`, which takes over the labels of where it goes."""
    return replace(to, number=number, status=status, description=f"Rollback to {to.number}", updated=float(number))


def test_labels_that_were_handed_on_name_nothing() -> None:
    one = deployed(1, "1.0.0", good=True)
    seen = History((one, by_hand(2, one))).situation()
    assert seen.current == "revision-2"
    assert [(release.id, release.trusted) for release in seen.releases] == [("revision-2", False), ("1.0.0", True)]


def test_a_rollback_is_the_release_that_it_went_to() -> None:
    one, two = deployed(1, "1.0.0", good=True), deployed(2, "2.0.0")
    three = back(3, one)
    assert History((one, two, three)).situation().current == "1.0.0"
    assert History((two, three)).situation().current == "1.0.0"  # its source is pruned
    assert History((one, two, three, back(4, three))).situation().current == "1.0.0"
    upgraded = by_hand(2, one)
    assert History((one, upgraded, back(3, upgraded))).situation().current == "revision-2"
    failed = replace(three, status="failed", description='Release "shop" failed: context deadline exceeded')
    seen = History((one, two, failed)).situation()
    assert (seen.current, seen.unsettled) == ("1.0.0", True)
    assert History((one, two, by_hand(3, two, "failed"))).situation().current == "revision-3"


def test_the_newest_revision_says_what_is_known_of_a_release() -> None:
    one, two = deployed(1, "1.0.0", good=True), deployed(2, "2.0.0")
    bad = helm_labels.release_labels(Release("1.0.0", known_good=GOOD, bad=Bad(9.0, "slow")))
    three = replace(back(3, one), labels={**bad, "revision": "3"})
    releases = {release.id: release for release in History((one, two, three)).situation().releases}
    assert releases["1.0.0"].bad and releases["1.0.0"].deployed_at == 1.0


def test_what_was_not_rolled_out_whole_is_nowhere_to_go_back_to() -> None:
    failed = replace(deployed(1, "1.0.0"), description='Release "shop" failed: timed out', status="superseded")
    pending = replace(deployed(2, "2.0.0", "pending-upgrade"), since=100.0)
    history = History((failed, pending))
    assert history.sound("1.0.0") is None and history.sound("2.0.0") is None
    assert not any(release.complete for release in history.situation().releases)
    assert helm_plan.footing(history) == pending
    with pytest.raises(PlaceError, match="begun by somebody who left no name"):
        helm_plan.underway(history, "r-1", now=110.0, patience=600.0)
    assert helm_plan.underway(history, "", now=800.0, patience=600.0) == pending
    ours = replace(pending, labels={**pending.labels, "rollout": "r-1"})
    assert helm_plan.underway(History((failed, ours)), "r-1", now=110.0, patience=600.0) == ours
    with pytest.raises(PlaceError, match="begun by rollout r-1"):
        helm_plan.underway(History((failed, ours)), "r-2", now=110.0, patience=600.0)


@given(st.integers(2, 6), st.integers(1, 12), st.integers(1, 12))
def test_helm_gets_the_room_that_the_known_good_needs(keep: int, total: int, good: int) -> None:
    """Against what Helm does: delete the oldest, but not the one that runs, until there is place for one more."""
    history = History(tuple(deployed(number, f"{number}.0") for number in range(1, total + 1)))
    held = next((each for each in history.revisions if each.number == min(good, total)), None)
    room = helm_plan.room(history, keep, (held,))
    left = list(history.revisions)
    for revision in history.revisions:
        if len(left) > room - 1 and revision != history.last:
            left.remove(revision)
    assert held in left and (room == keep or room == total - min(good, total) + 2)
    assert helm_plan.room(history, 0, (held,)) == 0


def test_who_is_overtaken() -> None:
    one = deployed(1, "1.0.0", good=True)
    two = deployed(2, "2.0.0", "deployed", rollout="r-1")
    history = History((one, two, by_hand(3, two)))
    for wish in (Rollback(leave="2.0.0"), Rollback(rollout="r-1", undo=True), Rollback(leave="2.0.0", to="1.0.0")):
        assert helm_plan.overtaken(history, wish)
    for wish in (Rollback(), Rollback(to="1.0.0"), Rollback(leave="revision-3"), Rollback(rollout="r-9", undo=True)):
        assert helm_plan.overtaken(history, wish) is None
    assert helm_plan.overtaken(History((one, two)), Rollback(leave="2.0.0")) is None
    assert helm_plan.overtaken(History((one, two, back(3, one))), Rollback(leave="2.0.0")) is None


def test_how_a_revision_came_to_be() -> None:
    one = deployed(1, "1.0.0", good=True)
    journal = Journal("deployed", "1.0.0", "2.0.0", "switching", 12.5, "r+1", 7)
    two = deployed(2, "2.0.0", "deployed")
    two = replace(two, labels={**two.labels, **helm_labels.journal_labels(journal, 2), "token": "7"})
    assert History((one, two)).situation().journal == replace(journal, phase="settled")
    assert History((one, two)).brought_by("r+1") == "2.0.0"
    seen = History((one, two, back(3, one))).situation()
    assert seen.journal and (seen.journal.state, seen.journal.before, seen.token) == ("known_good", "2.0.0", 7)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('spec.replicas: Invalid value: "s3cr3t \\" x": must be', "spec.replicas: Invalid value: ***: must be"),
        ("a: Invalid value: v1.Pod{Env:[]v1.EnvVar{s3cr3t: x}}: no", "a: Invalid value: ***: no"),
        ("env: Unsupported value: s3cr3t: supported", "env: Unsupported value: ***: supported"),
        ("the s3cr3t\nis s3cr3t", "the *** is ***"),
    ],
)
def test_no_value_in_what_helm_says(said: str, told: str) -> None:
    assert bare(said, ["s3cr3t"]) == told


STDERR: Dict[str, str] = {
    "late": (
        "ready.go:303: 2026-11-21 12:12:38 +0000 UTC m=+1.1 [debug] Service is not ready: prod/front.end\n"
        "ready.go:303: 2026-11-21 12:12:39 +0000 UTC m=+2.1 [debug] Deployment is not ready: prod/shop. "
        "0 out of 1 expected pods are ready\n"
        "Error: UPGRADE FAILED: context deadline exceeded\n"
        "helm.go:92: 2026-11-21 12:12:40 +0000 UTC m=+3.1 [debug] context deadline exceeded\n"
    ),
    "pending": "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress\n",
    "schema": "Error: values don't meet the specifications of the schema(s)\nshop:\n- tag: Invalid type\n",
}


def test_helms_errors() -> None:
    late = refused(STDERR["late"], "the upgrade")
    assert str(late).startswith("the upgrade was not ready in time: Deployment prod/shop (0 out of 1 expected pods are")
    assert unready(STDERR["late"].splitlines()[0]) == {"Service prod/front.end": ""}
    assert "Wait until it ends" in str(refused(STDERR["pending"], "the upgrade"))
    schema = str(refused(STDERR["schema"], "the upgrade"))
    assert "shop: - tag: Invalid type" in schema and "Check values and values_files" in schema
    assert "helm said nothing" in str(refused("", "the upgrade"))


def test_values_are_one_secret() -> None:
    assert packed({"name": "shop", "values": {"tag": 1}}) == {"name": "shop", "values": '{"tag": 1}'}
    assert packed({"values": '{"tag": 1}'}) == {"values": '{"tag": 1}'}
    assert packed({"name": "shop", "values": {}}) == packed({"name": "shop"}) == {"name": "shop"}


def test_times() -> None:
    assert (
        helm_labels.epoch("2026-11-21T12:12:33.5Z") == helm_labels.epoch("2026-11-21T13:12:33.5+01:00") == 1795263153.5
    )
    assert helm_labels.epoch("") == 0.0
