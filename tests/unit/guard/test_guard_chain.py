# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain finds what was changed and names it; what it keeps is plain JSON without secrets."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import List, Mapping, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import chain
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry, Lease, Rollout

texts = st.text(max_size=8)
facts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(texts, facts, max_size=4)


def linked(contents: Sequence[Mapping[str, object]]) -> List[Entry]:
    entries: List[Entry] = []
    for number, body in enumerate(contents, 1):
        prev = entries[-1].hash if entries else chain.GENESIS
        entries.append(chain.link(number, prev, at=1e9 + number, service="shop", kind="note", actor="ada", body=body))
    return entries


chains = st.lists(bodies, min_size=2, max_size=8).map(linked)


@given(chains)
def test_an_untouched_chain_holds_also_after_a_way_through_json(entries: List[Entry]) -> None:
    assert chain.first_break(entries) is None
    carried = [Entry(**json.loads(json.dumps(entry.__dict__))) for entry in entries]
    assert chain.first_break(carried, entries[0].hash) is None
    assert chain.first_break(carried, entries[-1].hash) is None


@given(chains, st.data())
def test_a_changed_entry_is_named(entries: List[Entry], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[at]
    field = data.draw(st.sampled_from(["at", "service", "kind", "actor", "body", "hash"]))
    if field == "at":
        changed = replace(entry, at=math.nextafter(entry.at, math.inf))
    elif field == "body":
        body = data.draw(bodies)
        assume(chain.canonical(body) != chain.canonical(entry.body))
        changed = replace(entry, body=body)
    else:
        changed = replace(entry, **{field: getattr(entry, field) + "x"})
    assert chain.first_break([*entries[:at], changed, *entries[at + 1 :]]) == (
        f"Entry {at + 1} was changed after it had been written."
    )


@given(chains, st.data())
def test_a_removed_entry_is_named(entries: List[Entry], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(entries) - 2))
    found = chain.first_break(entries[:at] + entries[at + 1 :])
    assert found == f"Entry {at + 1} is missing: entry {at + 2} follows entry {at}."


@given(chains, st.data())
def test_entries_cut_off_the_end_show_against_a_head_kept_elsewhere(entries: List[Entry], data: st.DataObject) -> None:
    left = data.draw(st.integers(0, len(entries) - 1))
    found = chain.first_break(entries[:left], entries[-1].hash)
    assert found is not None and f"ends at entry {left} without the head {entries[-1].hash[:12]}" in found


@given(chains, st.data())
def test_entries_that_changed_places_are_named(entries: List[Entry], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(entries) - 2))
    second = data.draw(st.integers(first + 1, len(entries) - 1))
    moved = list(entries)
    moved[first] = replace(entries[second], seq=first + 1)
    moved[second] = replace(entries[first], seq=second + 1)
    assert chain.first_break(moved) == (
        f"Entry {first + 1} does not follow entry {first}: it names another hash before it."
    )


@given(chains, bodies, st.data())
def test_an_entry_slipped_in_is_found_where_the_old_chain_goes_on(
    entries: List[Entry], body: dict[str, object], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(entries) - 1))
    prev = entries[at - 1].hash if at else chain.GENESIS
    forged = chain.link(at + 1, prev, at=0.0, service="shop", kind="note", actor="eve", body=body)
    later = [replace(entry, seq=entry.seq + 1) for entry in entries[at:]]
    assert chain.first_break([*entries[:at], forged, *later]) == (
        f"Entry {at + 2} does not follow entry {at + 1}: it names another hash before it."
    )


@given(chains, st.data())
def test_rewriting_one_entry_with_its_hash_breaks_the_next(entries: List[Entry], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(entries) - 2))
    changed = replace(entries[at], actor="eve")
    changed = replace(changed, hash=chain.digest(changed))
    found = chain.first_break([*entries[:at], changed, *entries[at + 1 :]])
    assert found == f"Entry {at + 2} does not follow entry {at + 1}: it names another hash before it."


@given(facts)
def test_what_is_kept_is_strict_json_and_keeping_it_again_changes_nothing(fact: object) -> None:
    def refuse(word: str) -> object:
        raise AssertionError(f"{word} is no JSON")

    text = chain.canonical(fact)
    assert text.isascii()
    assert chain.canonical(json.loads(text, parse_constant=refuse)) == text


def test_what_is_not_finite_is_null_and_the_order_of_keys_does_not_matter() -> None:
    assert chain.canonical({"b": math.nan, "a": (1, math.inf)}) == '{"a":[1,null],"b":null}'
    assert chain.canonical({"a": 1, "b": 2}) == chain.canonical({"b": 2, "a": 1})


@pytest.mark.parametrize(
    "name",
    ["password", "bearer_token", "clientSecret", "X-Api-Key", "Authorization", "private_key", "token", "PASSPHRASE"],
)
def test_secrets_are_masked_wherever_they_are(name: str) -> None:
    kept = chain.canonical({"source": [{name: "hunter2", "url": "https://ada:hunter2@metrics.example.org/api"}]})
    assert "hunter2" not in kept
    assert json.loads(kept) == {"source": [{name: chain.MASK, "url": f"https://{chain.MASK}@metrics.example.org/api"}]}


def test_what_only_sounds_like_a_secret_is_kept() -> None:
    fact = {"token": 7, "password_file": "/etc/selfheal/pw", "secret": "", "tokens": {"left": 3}, "cookies": ["a"]}
    assert json.loads(chain.canonical(fact)) == fact


@pytest.mark.parametrize(
    ("fact", "named"),
    [
        ({"steps": [{"places": {"web1"}}]}, "steps[0].places: it is of type set"),
        ({"key": b"raw"}, "key: it is of type bytes"),
        (object(), "this: it is of type object"),
        ({"steps": {1: "web1"}}, "steps: its key 1 is not a string"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_name(fact: object, named: str) -> None:
    with pytest.raises(OptionError) as caught:
        chain.canonical(fact)
    assert named in str(caught.value)


def test_a_text_that_is_no_mapping_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="not a mapping"):
        chain.decode("[]")


# --- the same in the file


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A ledger with a rollout that went the whole way, nine entries."""
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(str(path))
    for number, end in ((1, "undone"), (2, "done")):
        lease = ledger.acquire("shop", "run", 30, 100.0)
        opened = Rollout(f"r{number}", "shop", "2.0", "canary", "", 0, 0.0, 0.0, {"places": ["web1"]})
        ledger.open_rollout(lease, opened, "ada", 101.0)
        ledger.set_state(lease, opened.id, end, {"why": "gate"}, "run", 102.0)
        ledger.release(lease, 103.0)
    ledger.append("shop", "note", "ada", {"text": "end"}, 104.0)
    assert ledger.verify() is None
    ledger.close()
    return path


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        ("UPDATE entry SET actor = 'eve' WHERE seq = 4", "Entry 4 was changed"),
        ("UPDATE entry SET actor = x'ff' WHERE seq = 4", "Entry 4 was changed"),
        ("UPDATE entry SET at = at + 1 WHERE seq = 1", "Entry 1 was changed"),
        ("UPDATE entry SET at = 'noon' WHERE seq = 2", "Entry 2 in the ledger"),
        ("UPDATE entry SET body = replace(body, 'gate', 'late') WHERE seq = 3", "Entry 3 was changed"),
        ("UPDATE entry SET body = '{' WHERE seq = 3", "Entry 3 in the ledger"),
        ("UPDATE entry SET body = body || ' ' WHERE seq = 3", "Entry 3 in the ledger"),
        ("UPDATE entry SET hash = x'00' WHERE seq = 3", "Entry 3 was changed"),
        ("DELETE FROM entry WHERE seq = 5", "Entry 5 is missing"),
        ("DELETE FROM entry WHERE seq <= 2", "Entry 1 is missing"),
        ("UPDATE entry SET seq = 100 WHERE seq = 6", "Entry 6 is missing"),
        ("UPDATE rollout SET intent = '{\"places\":[\"web2\"]}' WHERE id = 'r1'", "The intent of rollout r1 is not"),
        ("UPDATE rollout SET service = 'bank' WHERE id = 'r1'", "The intent of rollout r1 is not"),
        ("UPDATE rollout SET outcome = '[]' WHERE id = 'r1'", "Rollout r1 in the ledger"),
        (
            "UPDATE rollout SET state = 'open' WHERE id = 'r2'",
            "Rollout r2 is open, but the last entry about it says done",
        ),
        ("DELETE FROM rollout WHERE id = 'r2'", "Rollout r2 was recorded and is gone"),
        ("UPDATE rollout SET id = 'r3' WHERE id = 'r2'", "The intent of rollout r3 is not"),
    ],
)
def test_tampering_with_the_file_is_found_and_named(kept: Path, tampering: str, named: str) -> None:
    with sqlite3.connect(kept) as raw:
        assert raw.execute(tampering).rowcount > 0
    raw.close()
    problem = SqliteLedger(str(kept)).verify()
    assert problem is not None and problem.startswith(named)


def test_cutting_off_the_newest_entries_shows_against_the_kept_head(kept: Path) -> None:
    ledger = SqliteLedger(str(kept))
    head = ledger.head()
    assert ledger.verify(head) is None
    with sqlite3.connect(kept) as raw:
        raw.execute("DELETE FROM entry WHERE seq = 9")
    raw.close()
    assert ledger.verify() is None
    assert "ends at entry 8 without the head" in str(ledger.verify(head))


def test_the_lease_is_no_part_of_the_chain_and_the_head_of_nothing_is_known(tmp_path: Path) -> None:
    ledger = SqliteLedger(str(tmp_path / "new.sqlite"))
    assert ledger.head() == chain.GENESIS
    assert ledger.verify(chain.GENESIS) is None
    assert ledger.holder("shop", 0.0) is None
    assert Lease("shop", "run", 1, 30.0) == ledger.acquire("shop", "run", 30, 0.0)
