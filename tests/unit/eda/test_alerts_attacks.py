# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is sent: the filter does not raise, and nothing that it makes is a template, a pattern or a surprise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List

import pytest
from attack_corpus import ALERTMANAGER, CALL, FIRST, REFUSED, UNPROVEN, UNREADABLE, Attack, attacks, changed, exploits
from captured_alerts import FIRING
from environment import ROOT
from filtered import MODULE, alerts, flaws, texts
from fuzz_bodies import fuzz
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._respond.event import parse_event

BODIES = int(os.environ.get("SELFHEAL_FUZZ", "10000"))
VERIFIED = {"selfheal": {"verified": "bearer"}}
neutral = MODULE["neutral"]

ANY_TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(list(exploits(Path("x")).values()))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
OPTIONS = st.dictionaries(st.sampled_from(["services", "labels", "service_label", "calls", "x"]), JSON_VALUES)
PIECES = ["{", "{", "%", "#", "}", "jinja2:", "JINJA2:", " ", "x", "\n", "\u200b", "\ud800", "{{", "#jinja2:"]
TEXT = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def decoded(attack: Attack) -> Any:
    """As a source reads it; None when that is no JSON."""
    try:
        return json.loads(attack.body)
    except (ValueError, RecursionError):
        return None


def render(texts_to_render: Iterable[str]) -> int:
    """Render them as ansible-core renders what ansible-rulebook writes into extra variables; how many it could."""
    command = [sys.executable, str(ROOT / "tests/tools/render_texts.py")]
    given_texts = json.dumps(list(texts_to_render))
    done = subprocess.run(command, input=given_texts, capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


# --- the corpus


def test_every_attack_ends_as_it_must(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    corpus = attacks(proof)
    assert len(corpus) >= 300 and len({attack.name for attack in corpus}) == len(corpus)
    wrong: List[str] = []
    seen = set()
    for attack in corpus:
        body = decoded(attack)
        if attack.must == UNREADABLE:
            wrong.extend([f"{attack.name}: it can be read"] if body is not None else [])
        made = alerts({"payload": body, "meta": VERIFIED})
        wrong.extend(f"{attack.name}: {flaw}" for flaw in flaws(made))
        kinds = {event["kind"] for event in made}
        if attack.must in (REFUSED, UNREADABLE) and kinds != {"refused"}:
            wrong.append(f"{attack.name}: {kinds}")
        if attack.must == UNPROVEN and {event["kind"] for event in alerts({"payload": body})} - {"refused", "alert"}:
            wrong.append(f"{attack.name}: {kinds}")
        wrong.extend(f"{attack.name}: {event['reason']}" for event in made if "please report" in event["reason"])
        seen.update(texts(made))
        for event in made:
            parse_event(event)  # as the playbook takes it; it raises when it does not
    assert not wrong
    assert render(sorted(seen)) == len(seen)
    assert not proof.exists()


def test_without_the_filter_the_exploits_do_work(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    proofs = {name: tmp_path / name for name in exploits(tmp_path)}
    render([exploits(proof)[name] for name, proof in proofs.items()])
    working = {name for name, proof in proofs.items() if proof.exists()}
    assert working >= {"expression", "statement", "loop", "override", "in-the-middle", "second-line", "query"}


def test_attacks_do_not_take_the_good_alerts_with_them() -> None:
    bad = [changed(ALERTMANAGER, FIRST, value)["alerts"][0] for value in (None, [], {"labels": {}}, "x")]
    made = alerts({**ALERTMANAGER, "alerts": [*bad, *ALERTMANAGER["alerts"], *bad]})
    assert [event["service"] for event in made if event["kind"] == "alert"] == ["shop"]


# --- properties


@given(event=JSON_VALUES)
def test_anything_at_all(event: Any) -> None:
    wrapped = ({"payload": event}, {"payload": event, "meta": event}, {"payload": {**FIRING, "alerts": event}})
    for shaped in (event, *wrapped):
        made = alerts(shaped, calls="accept")
        assert not flaws(made)
        assert made == alerts(shaped, calls="accept")
        assert all(parse_event(one).kind == one["kind"] for one in made)


@given(labels=st.dictionaries(st.sampled_from(MODULE["DEFAULT_LABELS"]), TEXT, max_size=4), caller=TEXT, reason=TEXT)
def test_any_texts_where_texts_belong(labels: Dict[str, str], caller: str, reason: str) -> None:
    for key, value in labels.items():
        body = changed(ALERTMANAGER, (*FIRST, "labels"), {**ALERTMANAGER["alerts"][0]["labels"], key: value})
        assert not flaws(alerts(body))
    assert not flaws(alerts({**CALL, "name": caller, "reason": reason}, calls="accept"))
    assert not flaws(alerts({**CALL, "service": caller}, calls="accept"))


@given(event=JSON_VALUES, options=OPTIONS)
def test_any_options(event: Any, options: Dict[str, Any]) -> None:
    assert not flaws(alerts({**FIRING, "extra": event}, **options))


@given(left=TEXT, right=TEXT)
@example(left="{#", right="jinja2:")
def test_neutral_texts_stay_as_they_are_and_are_neutral_when_joined(left: str, right: str) -> None:
    done = neutral(left)
    assert neutral(done) == done and len(done) <= len(left) + 2 * left.count("#")
    joined = done + neutral(right)
    assert not any(marker in joined for marker in ("{{", "{%", "{#"))
    # it gives other delimiters only where a text begins with it; no single text has it anywhere
    assert "#jinja2:" not in done and not joined.startswith("#jinja2:")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
def test_uuids_tell_news_from_copies(news: List[Any]) -> None:
    """Fingerprint, start and status make the news, and nothing else does."""
    made = []
    for number, (fingerprint, start, firing) in enumerate(news):
        alert = {
            **FIRING["alerts"][0],
            "fingerprint": f"{fingerprint:016x}",
            "startsAt": f"2026-11-21T18:00:0{start}Z",
            "status": "firing" if firing else "resolved",
            "annotations": {"number": str(number)},
        }
        made.extend(alerts({**FIRING, "alerts": [alert], "receiver": str(number)}))
    assert len({event["meta"]["uuid"] for event in made}) == len(set(news))


@pytest.mark.parametrize("text", ["x", "{", "{{ x }}", "#", "#jinja2:", "\ud800"])
def test_time_does_not_explode_with_size(text: str) -> None:
    text *= 4_000_000 // len(text)
    begun = time.process_time()
    for place in (("labels", "alertname"), ("labels", "service"), ("startsAt",), ("fingerprint",), ("labels", "owner")):
        assert not flaws(alerts(changed(ALERTMANAGER, (*FIRST, *place), text)))
    assert not flaws(alerts({"payload": text, "meta": {"selfheal": {"key": text, "ack": [text]}}}))
    assert not flaws(alerts(dict.fromkeys((text, "alerts"), text)))
    assert time.process_time() - begun < 2


def test_depth_that_no_parser_would_make() -> None:
    for wrap in (lambda inner: [inner], lambda inner: {"alerts": inner}, lambda inner: {"payload": inner}):
        deep: Any = 1
        for _level in range(100_000):
            deep = wrap(deep)
        assert not flaws(alerts(deep))
        assert not flaws(alerts({**FIRING, "alerts": [deep, *FIRING["alerts"]]}))


def test_ten_thousand_alerts_in_little_time() -> None:
    alert = FIRING["alerts"][0]
    labels = [{**alert["labels"], "alertname": f"A{number}"} for number in range(10_000)]
    many = [{**alert, "labels": some, "fingerprint": f"{number:016x}"} for number, some in enumerate(labels)]
    begun = time.process_time()
    made = alerts({**FIRING, "alerts": many}, max_alerts=10_000, one_event_per="service")
    assert time.process_time() - begun < 5
    assert len(made) == 10_000 and not flaws(made[:10])


def test_fuzzed_bodies() -> None:
    """SELFHEAL_FUZZ says how many, such as 100000; each thousand takes about a fifth of a second."""
    kinds = fuzz(BODIES)
    assert set(kinds) == {"alert", "error_code", "call", "watchdog", "refused"}
