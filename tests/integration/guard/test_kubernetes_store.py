# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store in ConfigMaps, on a real API server: whole transactions, old rows, lost answers, and what is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import secrets
import signal
import string
import time
import zlib
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping

import cut_off
import pytest
from cluster import ApiError, Cluster, start
from cut_off import CutOff

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError, OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import chain, rules
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import kubernetes as under_test
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.book import Book
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.kubernetes import KubernetesStore, open_store
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Command, Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.store import Rows

SERVICE = "prod/shop"
NOW = 1_790_000_000.0
HEAD = "selfheal-ledger"


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with start(tmp_path_factory.mktemp("api-server"), nodes=False) as running:
        yield running


@pytest.fixture
def room(api_server: Cluster) -> Iterator["Room"]:
    """A fresh namespace, with the stores that were opened in it."""
    found = Room(api_server)
    yield found
    for store in found.opened:
        store.close()


class Room:
    def __init__(self, api_server: Cluster) -> None:
        self.cluster, self.namespace = api_server, api_server.namespace("ledger")
        self.opened: List[KubernetesStore] = []
        self.path = f"/api/v1/namespaces/{self.namespace}/configmaps"

    def store(self, *, create: bool = True, **options: Any) -> KubernetesStore:
        asked = {"kubeconfig": str(self.cluster.kubeconfig), "namespace": self.namespace, **options}
        store = open_store(asked, create=create, environ={})
        self.opened.append(store)
        return store

    def by_way_of(self, proxy: CutOff, **options: Any) -> KubernetesStore:
        return self.store(kubeconfig=str(self.cluster.kubeconfig_with(server=proxy.url)), **options)

    def head(self) -> Dict[str, Any]:
        return self.cluster.get(f"{self.path}/{HEAD}")

    def change(self, data: Mapping[str, Any], name: str = HEAD) -> None:
        self.cluster.patch(f"{self.path}/{name}", {"data": data})

    def parts(self, kind: str) -> List[str]:
        found = self.cluster.list(f"{self.path}?labelSelector=selfheal.delivery/part={kind}")
        return sorted(each["metadata"]["name"] for each in found)


def note(
    rows: Rows, text: str = "", kind: str = "note", service: str = SERVICE, trigger: str = "", told: str = ""
) -> None:
    seq, prev = rows.newest()
    body = {"text": text}
    entry = chain.link(seq + 1, prev, at=NOW + seq, service=service, kind=kind, actor="me", body=body)
    rows.add_entry(entry, trigger=trigger, told=told)


def increment(rows: Rows) -> int:
    number = int(str(rows.note("counter").get("n", 0))) + 1
    rows.put_note("counter", {"n": number})
    note(rows, str(number))
    return number


def counted(rows: Rows) -> int:
    """The counter; the entries beside it say the same."""
    number = int(str(rows.note("counter").get("n", 0)))
    entries = list(rows.all_entries())
    assert chain.first_break(entries) is None
    assert [entry.body["text"] for entry in entries] == [str(each) for each in range(1, number + 1)]
    return number


def rollout(name: str, service: str = SERVICE, state: str = "open", **bodies: Mapping[str, object]) -> Rollout:
    return Rollout(name, service, "2.0", "canary", state, 7, NOW, NOW, by="ada", **bodies)


def noise(size: int, seed: int = 1) -> str:
    """Text that cannot be compressed much."""
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits, k=size))


def in_processes(count: int, work: Callable[[int], None]) -> None:
    """`work(number)` in so many processes at once; AssertionError when one of them fails."""
    forked = multiprocessing.get_context("fork")
    running = [forked.Process(target=work, args=(number,)) for number in range(count)]
    for each in running:
        each.start()
    for each in running:
        each.join(120)
    assert [each.exitcode for each in running] == [0] * count


# --- what every store does


def test_rows_are_what_was_written_and_a_work_that_raises_writes_nothing(room: Room) -> None:
    store = room.store()

    def work(rows: Rows) -> Command:
        rows.put_lease(Lease(SERVICE, "me", 7, NOW + 60))
        rows.put_lease(Lease("a", "me", 8, NOW - 1))
        rows.add_rollout(rollout("r1", intent={"n": 1, "api_token": "hidden", "far": float("inf")}))
        rows.add_rollout(rollout("r2", service="a"))
        assert rows.put_progress("r1", SERVICE, {"step": 2}, 9, NOW + 1)
        assert not rows.put_progress("r1", "a", {}, 9, NOW + 1) and not rows.put_progress("r3", "a", {}, 9, NOW)
        rows.put_note("memory:" + SERVICE, {"n": [1, 2.5, None]})
        note(rows, "one", trigger="alert-1", told="denied:cooldown")
        note(rows, "two", service="a")
        rows.add_command(Command(0, "a", "hold", "ada", "why", NOW, None, "r2"))
        return rows.add_command(Command(0, SERVICE, "abort", "ada", "", NOW, None, "r1"))

    said = store.write(work)
    assert said.seq == 2
    other = room.store(create=False)

    def look(rows: Rows) -> None:
        assert rows.lease(SERVICE) == Lease(SERVICE, "me", 7, NOW + 60) and rows.lease("b") is None
        assert [lease.service for lease in rows.leases(NOW)] == [SERVICE]
        kept = rows.rollout("r1")
        assert kept is not None
        assert (kept.intent, kept.progress) == ({"n": 1, "api_token": "***", "far": None}, {"step": 2})
        assert (kept.token, kept.updated_at, kept.by) == (9, NOW + 1, "ada")
        assert [each.id for each in rows.unfinished("")] == ["r1", "r2"]
        assert [each.id for each in rows.last_rollouts("", 1)] == ["r2"]
        assert rows.told(SERVICE, "alert-1") == "denied:cooldown" and rows.told("a", "alert-1") is None
        assert rows.all_told() == {(SERVICE, "alert-1"): "denied:cooldown"}
        assert rows.notes("memory:") == {"memory:" + SERVICE: {"n": [1, 2.5, None]}} and rows.note("x") == {}
        assert [entry.seq for entry in rows.last_entries(SERVICE, 5)] == [1]
        assert [entry.seq for entry in rows.entries("", 1, 5)] == [2] and rows.newest()[0] == 2
        assert rows.commands("", 0, "r1") == [said] and len(rows.commands("", 0, "")) == 2

    other.read(look)
    before = room.head()["metadata"]["resourceVersion"]

    def failing(rows: Rows) -> None:
        increment(rows)
        raise LeaseError("not yours")

    with pytest.raises(LeaseError, match="not yours"):
        other.write(failing)
    with pytest.raises(OptionError, match="not valid Unicode"):
        other.write(lambda rows: note(rows, trigger="\ud800", told="y"))
    other.write(lambda rows: rows.take_commands("r9", NOW))
    assert room.head()["metadata"]["resourceVersion"] == before  # nothing to write, no request
    other.write(lambda rows: rows.take_commands("r1", NOW + 2))
    assert [each.taken for each in store.read(lambda rows: rows.commands("", 0, ""))] == [None, NOW + 2]
    store.write(lambda rows: rows.put_rollout(rollout("r1", state="done", outcome={"ok": True})))
    assert [each.id for each in store.read(lambda rows: rows.unfinished(""))] == ["r2"]


def test_a_transaction_is_one_reading_and_one_writing_that_kubectl_shows(room: Room) -> None:
    store = room.store()
    store.write(increment)
    before = store.requests
    store.write(increment)
    assert store.requests == before + 2
    assert store.read(counted) == 2
    assert store.requests == before + 3
    data = room.head()["data"]
    assert [json.loads(each)["body"] for each in data["entries"].split("\n")] == [{"text": "1"}, {"text": "2"}]
    assert json.loads(data["notes"]) == {"key": "counter", "value": {"n": 2}}


def test_eight_processes_count_to_400(room: Room) -> None:
    room.store()

    def count(_number: int) -> None:
        store = room.store()
        for _time in range(50):
            store.write(increment)

    in_processes(8, count)
    assert room.store().read(counted) == 400


def test_what_others_wrote_in_between_is_read_before_it_is_decided_again(room: Room) -> None:
    one, other = room.store(), room.store()
    seen: List[int] = []

    def work(rows: Rows) -> int:
        seen.append(int(str(rows.note("counter").get("n", 0))))
        if len(seen) <= 2:
            other.write(increment)
        return increment(rows)

    assert one.write(work) == 3 and seen == [0, 1, 2]
    assert other.read(counted) == 3


def test_a_holder_that_was_paused_cannot_overwrite_the_next_ones_progress(room: Room) -> None:
    old, new = room.store(), room.store()
    places = {f"place-{number}": noise(40, number) for number in range(500)}
    first = Lease(SERVICE, "old", 7, NOW + 60)

    def begin(rows: Rows) -> None:
        rows.put_lease(first)
        rows.add_rollout(rollout("r1", intent={"places": places}))

    old.write(begin)
    assert len(room.parts("body")) == 1  # too large for the head

    def save(rows: Rows, lease: Lease, step: int) -> None:
        rules.hold(rows.lease(SERVICE), lease, NOW)
        assert rows.put_progress("r1", SERVICE, {"step": step, "places": places}, lease.token, NOW)

    old.write(lambda rows: save(rows, first, 1))
    second = replace(first, holder="new", token=8)

    def paused(rows: Rows) -> None:
        save(rows, first, 2)
        if new.read(lambda each: each.lease(SERVICE)) == first:
            new.write(lambda each: each.put_lease(second))
            new.write(lambda each: save(each, second, 3))

    with pytest.raises(LeaseError, match="was lost: new has it now"):
        old.write(paused)
    kept = old.read(lambda rows: rows.rollout("r1"))
    assert kept is not None and kept.progress == {"step": 3, "places": places} and kept.token == 8
    assert kept.intent == {"places": places}
    assert len(room.parts("body")) == 2  # intent and newest progress: no older one, none of the old holder
    assert len(json.dumps(room.head()["data"])) < 4000


def test_nobody_waits_long_for_a_process_that_was_stopped_and_it_begins_again(room: Room) -> None:
    store = room.store()
    store.write(increment)

    def stopped(_number: int) -> None:
        tries: List[int] = []

        def work(rows: Rows) -> int:
            tries.append(1)
            if len(tries) == 1:
                os.kill(os.getpid(), signal.SIGSTOP)
            return increment(rows)

        assert room.store().write(work) == 3 and len(tries) == 2

    child = multiprocessing.get_context("fork").Process(target=stopped, args=(0,))
    child.start()
    assert child.pid is not None
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    began = time.monotonic()
    assert store.write(increment) == 2 and time.monotonic() - began < 5
    os.kill(child.pid, signal.SIGCONT)
    child.join(60)
    assert child.exitcode == 0 and store.read(counted) == 3


# --- what is old

_AT_ONCE = 20


def fill(store: KubernetesStore, rounds: int) -> None:
    """Many rounds of what decisions write: an entry, a trigger, a command, and a rollout that is closed."""

    def work(rows: Rows, number: int) -> None:
        about = {"trigger": f"alert-{number}", "told": f"denied:{number}"}
        note(rows, noise(300, number), service=f"s{number % 5}", **about)
        name = f"r{number}"
        rows.add_rollout(rollout(name, service=f"s{number % 5}", intent={"n": number, "why": noise(200, number)}))
        rows.add_command(Command(0, f"s{number % 5}", "hold", "ada", str(number), NOW, None, name))
        state = "open" if number == 3 else "done"
        large = {"n": number, "log": noise(9000, number)} if number == 5 else {"n": number}
        rows.put_rollout(rollout(name, service=f"s{number % 5}", state=state, outcome=large))

    def some(rows: Rows, first: int) -> None:
        for number in range(first, first + _AT_ONCE):
            work(rows, number)

    for first in range(0, rounds, _AT_ONCE):
        store.write(lambda rows, first=first: some(rows, first))  # type: ignore[misc]


def test_what_is_old_moves_out_of_the_head_and_is_read_as_before(room: Room) -> None:
    store, rounds = room.store(), 1500
    fill(store, rounds)
    segments = room.parts("segment")
    assert 2 < len(segments) < 25 and len(json.dumps(room.head())) < 200_000
    assert room.parts("body") == []  # a closed rollout took its own with it

    def look(rows: Rows) -> None:
        entries = list(rows.all_entries())
        assert len(entries) == rounds and chain.first_break(entries) is None
        assert [each.seq for each in rows.entries("s2", 100, 3)] == [103, 108, 113]
        assert [each.seq for each in rows.last_entries("s2", rounds)] == list(range(rounds - 2, 0, -5))
        assert [each.id for each in rows.all_rollouts()] == [f"r{number}" for number in range(rounds)]
        assert [each.id for each in rows.last_rollouts("s4", rounds)][-2:] == ["r9", "r4"]
        assert [each.id for each in rows.unfinished("")] == ["r3"]
        kept = rows.rollout("r5")
        assert kept is not None and kept.outcome == {"n": 5, "log": noise(9000, 5)} and kept.state == "done"
        for number in (0, 700, rounds - 1):
            assert rows.told(f"s{number % 5}", f"alert-{number}") == f"denied:{number}"
        assert len(rows.all_told()) == rounds and rows.all_told()["s2", "alert-7"] == "denied:7"
        assert rows.told("s1", "alert-0") is None and rows.rollout("r") is None
        assert [each.reason for each in rows.commands("", 0, "r700")] == ["700"]
        assert len(rows.commands("", 0, "")) == rounds
        with pytest.raises(StoreError, match="has a rollout r5 already"):
            rows.add_rollout(rollout("r5"))

    room.store(create=False).read(look)
    # the newest word counts, also about what left the head
    store.write(lambda rows: note(rows, service="s0", trigger="alert-0", told="allowed"))
    assert store.read(lambda rows: rows.told("s0", "alert-0")) == "allowed"
    assert store.read(lambda rows: rows.all_told())["s0", "alert-0"] == "allowed"


def test_a_cut_removes_what_it_says_and_what_a_crash_left_over(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    store, rounds = room.store(), 400
    fill(store, rounds)
    before = room.parts("segment")
    gone = [f"r{number}" for number in range(300) if number != 3]

    def crash(_number: int) -> None:
        # between the segment's request and the head's
        monkeypatch.setattr(KubernetesStore, "_replace", lambda *_all: os.kill(os.getpid(), signal.SIGKILL))
        room.store().write(lambda rows: note(rows, noise(60_000)))

    child = multiprocessing.get_context("fork").Process(target=crash, args=(0,))
    head = room.head()
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert room.head() == head and len(room.parts("segment")) == len(before) + 1
    monkeypatch.setattr(under_test, "_ORPHAN", -60.0)
    store.write(lambda rows: rows.cut(300, gone))
    after = room.parts("segment")
    named = {json.loads(each)["parts"]["segment"]["name"] for each in room.head()["data"]["segments"].split("\n")}
    assert set(after) == named and len(after) < len(before)

    def look(rows: Rows) -> None:
        assert [each.seq for each in rows.all_entries()] == list(range(301, rounds + 1))
        assert [each.id for each in rows.all_rollouts()] == ["r3"] + [f"r{number}" for number in range(300, rounds)]
        assert rows.rollout("r10") is None and rows.commands("", 0, "r10") == []
        assert rows.told("s4", "alert-299") is None and rows.told("s0", "alert-300") == "denied:300"
        assert len(rows.all_told()) == rounds - 300
        assert rows.newest()[0] == rounds

    room.store(create=False).read(look)


def test_a_part_that_is_missing_or_altered_is_named(room: Room) -> None:
    fill(room.store(), 300)
    index = [json.loads(each) for each in room.head()["data"]["segments"].split("\n")]
    name = next(each["parts"]["segment"]["name"] for each in index if each["first"])
    whole = room.cluster.get(f"{room.path}/{name}")
    with pytest.raises(ApiError, match="immutable"):
        room.cluster.patch(f"{room.path}/{name}", {"binaryData": {"zlib": ""}})
    text = zlib.decompress(b64decode(whole["binaryData"]["zlib"]))
    about = {"name": name, "labels": whole["metadata"]["labels"]}
    altered = {"zlib": b64encode(zlib.compress(text.replace(b'"actor":"me"', b'"actor":"xx"'))).decode()}
    room.cluster.delete(f"{room.path}/{name}")
    for content, told in (
        (None, "it is gone"),
        (altered, "it is not what was written"),
        ({}, "it is not what was written"),
    ):
        if content is not None:
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "binaryData": content}
            room.cluster.create(room.path, made)
        with pytest.raises(StoreError, match=f"{name} in namespace {room.namespace} is corrupt: {told}"):
            room.store().read(lambda rows: list(rows.all_entries()))
        assert name in str(Book(room.store()).verify())
        if content is not None:
            room.cluster.delete(f"{room.path}/{name}")
    # what is new does not need it
    room.store().write(lambda rows: note(rows))


# --- answers that are lost


@pytest.fixture
def proxy(api_server: Cluster) -> Iterator[CutOff]:
    running = CutOff(api_server.url)
    yield running
    running.close()


@pytest.mark.parametrize("mode", [cut_off.NO_ANSWER, cut_off.NO_REQUEST, cut_off.LATE])
@pytest.mark.parametrize("others", [False, True])
def test_a_lost_answer_is_found_out_and_the_work_is_done_once(
    room: Room, proxy: CutOff, mode: str, others: bool
) -> None:
    store, other = room.by_way_of(proxy), room.store()
    calls: List[int] = []

    def work(rows: Rows) -> int:
        calls.append(len(calls))
        if len(calls) == 1:
            if others and mode != cut_off.NO_ANSWER:
                other.write(increment)
            proxy.mode = mode
        return increment(rows)

    store.write(increment)
    number = store.write(work)
    if others and mode == cut_off.NO_ANSWER:
        other.write(increment)
    proxy.deliver()
    assert number == (3 if others and mode != cut_off.NO_ANSWER else 2)
    assert other.read(counted) == (3 if others else 2)


def test_what_cannot_be_found_out_is_said(room: Room, proxy: CutOff) -> None:
    store = room.by_way_of(proxy, request_timeout=1.0)

    def work(rows: Rows) -> int:
        proxy.then, proxy.mode = cut_off.AWAY, cut_off.NO_ANSWER
        return increment(rows)

    with pytest.raises(StoreError, match="may or may not have been written"):
        store.write(work)
    proxy.mode = proxy.then = cut_off.PASS
    assert store.read(counted) == 1
    # and so, when it was long ago: the head remembers only so many
    other = room.store()

    def slow(rows: Rows) -> int:
        proxy.mode = cut_off.NO_ANSWER
        return increment(rows)

    found = store._head_after

    def late(doubt: Any) -> Any:
        for _time in range(257):
            other.write(lambda rows: rows.put_note("x", {"n": secrets.token_hex(4)}))
        return found(doubt)

    store._head_after = late  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="may or may not have been written"):
        store.write(slow)
    assert other.read(counted) == 2


def test_an_api_server_that_is_killed_loses_nothing_that_it_confirmed(room: Room, tmp_path: Path) -> None:
    room.store()
    told = tmp_path / "told"

    def count(_number: int) -> None:
        store = room.store(request_timeout=20.0)
        with told.open("a") as file:
            for _time in range(40):
                file.write(f"{store.write(increment)}\n")
                file.flush()

    forked = multiprocessing.get_context("fork")
    running = [forked.Process(target=count, args=(number,)) for number in range(2)]
    for each in running:
        each.start()
    for _kill in range(2):
        time.sleep(0.3)
        room.cluster.restart_apiserver()
    for each in running:
        each.join(120)
    assert [each.exitcode for each in running] == [0, 0]
    assert sorted(map(int, told.read_text().split())) == list(range(1, 81))
    assert room.store().read(counted) == 80


def test_an_api_server_that_is_away_is_told_in_time(room: Room) -> None:
    store = room.store(request_timeout=0.5)
    room.cluster.kill_apiserver()
    try:
        with pytest.raises(StoreError, match="could not be asked in .*nobody listens there"):
            store.write(increment)
        with pytest.raises(StoreError, match="could not be asked"):
            room.store()
    finally:
        room.cluster.revive_apiserver()
    assert store.write(increment) == 1


# --- what is refused


def rule(verbs: List[str], **more: object) -> Dict[str, Any]:
    return {"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs, **more}


def test_the_documented_role_is_enough_and_what_is_missing_of_it_is_named(room: Room) -> None:
    whole = [rule(["get", "list", "create", "delete"]), rule(["update"], resourceNames=[HEAD])]
    store = room.store(kubeconfig=str(room.cluster.token_for(room.namespace, whole)))
    fill(store, 100)
    store.write(lambda rows: rows.cut(50, []))
    reads = str(room.cluster.token_for(room.namespace, [rule(["get"])]))
    with pytest.raises(StoreError, match=rf"update configmaps '{HEAD}' in namespace '{room.namespace}'.*Grant it"):
        room.store(kubeconfig=reads).write(increment)
    with pytest.raises(StoreError, match="list configmaps in namespace"):
        room.store(kubeconfig=reads, name="another")
    none = str(room.cluster.token_for(room.namespace, [rule(["delete"])]))
    with pytest.raises(StoreError, match=f"get configmaps '{HEAD}'"):
        room.store(kubeconfig=none, create=False)
    updates = [rule(["get"]), rule(["update"], resourceNames=[HEAD])]
    before = room.head()
    with pytest.raises(StoreError, match="create configmaps in namespace"):
        room.store(kubeconfig=str(room.cluster.token_for(room.namespace, updates))).write(
            lambda rows: note(rows, noise(60_000))
        )
    assert room.head() == before


def test_options_that_cannot_be(room: Room) -> None:
    with pytest.raises(OptionError, match="needs a namespace"):
        room.store(namespace="")
    with pytest.raises(OptionError, match="cannot be a name in Kubernetes"):
        room.store(namespace="No/where")
    with pytest.raises(OptionError, match="longer than 63"):
        room.store(name="x" * 64)
    with pytest.raises(StoreError, match='namespaces "nowhere" not found.*Make the namespace nowhere'):
        room.store(namespace="nowhere")
    with pytest.raises(StoreError, match="There is no ledger: ConfigMap other in namespace"):
        room.store(name="other", create=False)


def test_a_namespace_is_the_pods_own_where_the_cluster_is_too(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "namespace").write_text(room.namespace)
    monkeypatch.setattr(under_test, "_OWN_NAMESPACE", str(tmp_path / "namespace"))
    environ = {"K8S_AUTH_KUBECONFIG": str(room.cluster.kubeconfig)}
    assert open_store({}, environ=environ).namespace == room.namespace
    with pytest.raises(OptionError, match="needs a namespace"):
        room.store(namespace="")


def test_a_head_that_was_changed_by_hand_is_named_with_its_key(room: Room) -> None:
    store = room.store()
    store.write(increment)
    store.write(lambda rows: rows.put_lease(Lease(SERVICE, "me", 7, NOW)))
    good = room.head()["data"]
    reads: List[Callable[[Rows], object]] = [
        lambda rows: rows.lease(SERVICE),
        lambda rows: rows.note("counter"),
        lambda rows: list(rows.all_entries()),
    ]
    for changed, told in (
        ({"layout": "99"}, "has layout version 99, and this release knows version 3"),
        ({"layout": None}, "has layout version none"),
        ({"ledger": "{}"}, "key 'ledger' is corrupt"),
        ({"leases": good["leases"] + "\n{"}, "key 'leases' is corrupt: line 2 is no JSON document"),
        ({"leases": good["leases"].replace(":7", ':"7"')}, "key 'leases' is corrupt: line 1 is not written as"),
        ({"notes": good["notes"] + "\n" + good["notes"]}, "key 'notes' is corrupt: two lines"),
        ({"entries": good["entries"].replace(":", " :", 1)}, "key 'entries' is corrupt: entry 1 is not written"),
    ):
        room.change(changed)
        with pytest.raises(StoreError, match=told):
            store.write(lambda rows: [read(rows) for read in reads])
        room.change(good)
    assert store.read(counted) == 1


def test_a_ledger_that_was_deleted_is_no_new_one(room: Room) -> None:
    store = room.store()
    store.write(increment)

    def work(rows: Rows) -> int:
        room.cluster.delete(f"{room.path}/{HEAD}")
        return increment(rows)

    with pytest.raises(StoreError, match=f"{HEAD}.*not found.*Restore a copy"):
        store.write(work)
    with pytest.raises(StoreError, match="There is no ledger: .* is not there"):
        store.read(counted)
    with pytest.raises(StoreError, match=f"is gone, but 1 of its parts are there, as {HEAD}-begun"):
        room.store()
    room.cluster.delete(f"{room.path}/{HEAD}-begun")
    assert room.store().write(increment) == 1
    with pytest.raises(StoreError, match="was deleted and made anew by somebody else"):
        store.write(increment)


def test_a_copy_of_its_configmaps_is_a_back_up(room: Room) -> None:
    fill(room.store(), 100)
    selector = f"?labelSelector=selfheal.delivery/ledger={HEAD}"
    copy = room.cluster.list(room.path + selector)
    assert len(copy) > 3
    room.cluster.delete(room.path + selector)
    for each in copy:
        about = {key: each["metadata"][key] for key in ("name", "labels")}
        room.cluster.create(room.path, {**each, "metadata": about, "apiVersion": "v1", "kind": "ConfigMap"})
    store = room.store()
    store.write(note)
    assert chain.first_break(store.read(lambda rows: list(rows.all_entries()))) is None
    assert len(store.read(lambda rows: list(rows.all_rollouts()))) == 100


def test_what_is_too_large_is_refused_whole(room: Room) -> None:
    store = room.store()
    store.write(increment)
    before = room.head()["metadata"]["resourceVersion"]

    def with_note(rows: Rows, size: int) -> None:
        increment(rows)
        rows.put_note("big", {"text": noise(size)})

    with pytest.raises(StoreError, match="The note 'big' takes .* KiB even compressed"):
        store.write(lambda rows: with_note(rows, 2_000_000))

    def many(rows: Rows, count: int, text: str = "") -> None:
        for number in range(count):
            rows.put_note(f"n{number}", {"text": text or noise(4000, number)})

    with pytest.raises(StoreError, match="would not fit into a ConfigMap.*its notes are the largest of .*PostgreSQL"):
        store.write(lambda rows: many(rows, 450))
    assert room.head()["metadata"]["resourceVersion"] == before and room.parts("body") == []
    store.write(lambda rows: with_note(rows, 600_000))
    assert len(room.parts("body")) == 1 and store.read(lambda rows: len(str(rows.note("big")["text"]))) == 600_000
    # a large section is compressed, and everything in it is there
    store.write(lambda rows: many(rows, 300, "x" * 1000))
    head = room.head()
    assert "notes" in head["binaryData"] and "notes" not in head["data"]
    assert store.read(counted) == 2 and len(store.read(lambda rows: rows.notes("n"))) == 300


def test_a_quota_is_told(room: Room) -> None:
    few = {"configmaps": "0"}
    path = f"/api/v1/namespaces/{room.namespace}/resourcequotas"
    about = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    room.cluster.create(path, {**about, "spec": {"hard": few}})
    # what the controller manager does
    room.cluster.patch(f"{path}/few/status", {"status": {"hard": few, "used": few}})

    def refused() -> bool:
        probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "probe-"}}
        try:
            room.cluster.create(f"{room.path}?dryRun=All", probe)
        except ApiError:
            return True
        return False

    room.cluster.wait(refused, "the quota holds")
    with pytest.raises(StoreError, match="exceeded quota.*Raise the namespace's quota"):
        room.store()


def test_after_a_fork_it_is_refused(room: Room) -> None:
    store = room.store()

    def child(_number: int) -> None:
        for use in (lambda: store.read(counted), lambda: store.write(increment), store.close):
            with pytest.raises(StoreError, match="before a fork"):
                use()

    in_processes(1, child)
    assert store.write(increment) == 1


def test_the_servers_clock_is_told_only_where_it_is_another(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = room.store(), time.time
    assert store.read(lambda rows: rows.time()) is None
    monkeypatch.setattr(time, "time", lambda: now() - 600)
    told = store.read(lambda rows: rows.time())
    assert told is not None and abs(told - now()) < 2


# --- the book over it


def test_a_book_over_it_keeps_its_rules_and_its_chain(room: Room) -> None:
    one, other = Book(room.store()), Book(room.store())
    lease = one.acquire(SERVICE, "one", 60, NOW)
    with pytest.raises(LeaseError, match="one is at work on it"):
        other.acquire(SERVICE, "other", 60, NOW)
    one.open_rollout(lease, rollout("r1", intent={"places": ["a"]}), "ada", NOW)
    other.say(SERVICE, "promote", "bo", "it is fine", NOW)
    renewed, said = one.look(lease, "r1", {"step": 1}, ttl=60, now=NOW + 1)
    assert [command.command for command in said] == ["promote"]
    one.set_state(renewed, "r1", "done", {"ok": True}, "one", NOW + 2)
    one.release(renewed, NOW + 2)
    taken = other.acquire(SERVICE, "other", 60, NOW + 3)
    with pytest.raises(LeaseError, match="was lost"):
        one.save_progress(renewed, "r1", {}, NOW + 3)
    assert taken.token == lease.token + 1 and other.verify(one.head()) is None
    head = other.head()
    data = room.head()["data"]
    room.change({"entries": data["entries"].replace("it is fine", "it is fun.")})
    assert "was changed after it had been written" in str(one.verify())
    room.change({"entries": data["entries"]})
    assert one.verify(head) is None


def test_old_entries_are_pruned_and_the_chain_still_holds(room: Room) -> None:
    book = Book(room.store())
    for number in range(150):
        book.append(SERVICE, "note", "me", {"text": noise(600, number)}, NOW + number)
    assert len(room.parts("segment")) >= 2
    kept = book.head()
    assert book.prune(NOW + 100, kept, "me", NOW + 200) is not None
    assert book.verify(kept) is None and len(list(book.all_entries())) < 60
    book.append(SERVICE, "note", "me", {}, NOW + 300)
    assert book.verify() is None
