# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies that an attacker, a broken sender or the wrong producer could post, each with a name and what must happen.

Whatever is posted: nothing of it is executed, no process ends, and what is good is taken afterwards. The exploits try
to make the file `proof`, so that a test can see that none did.
"""

from __future__ import annotations

import copy
import gzip
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

# --- what must happen to an attack
NEUTRAL = "neutral"  # it may become events, but without a template marker, a host pattern or a key of the sender
REFUSED = "refused"  # a source may refuse it with 4xx; the filter makes nothing of it but events of kind refused
UNREADABLE = "unreadable"  # it is no JSON: a source answers 4xx
UNPROVEN = "unproven"  # a source that asks for proof answers 401 or 403, and hands nothing on

ALERTS, CALLS = "/alerts", "/calls"
JSON = {"Content-Type": "application/json"}
Keys = Tuple[Any, ...]


@dataclass(frozen=True)
class Attack:
    """One request. A source's proof of the sender (a token, a signature) is for the test to add, but for UNPROVEN."""

    name: str
    body: bytes
    must: str
    path: str = ALERTS
    headers: Mapping[str, str] = field(default_factory=lambda: dict(JSON))


# --- good bodies, which the attacks are made from
ALERT: Dict[str, Any] = {
    "status": "firing",
    "labels": {
        "alertname": "ShopErrors",
        "service": "shop",
        "severity": "critical",
        "environment": "production",
        "version": "1.4.2",
        "instance": "10.0.0.7:8080",
        "owner": "team-shop",
    },
    "annotations": {"summary": "7 % of the shop's requests fail"},
    "startsAt": "2026-09-21T14:23:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=up",
    "fingerprint": "5f4f3d9dc0ef2a51",
}
ALERTMANAGER: Dict[str, Any] = {
    "receiver": "selfheal",
    "status": "firing",
    "alerts": [ALERT],
    "groupLabels": {"alertname": "ShopErrors"},
    "commonLabels": {"alertname": "ShopErrors", "service": "shop"},
    "commonAnnotations": {"summary": "7 % of the shop's requests fail"},
    "externalURL": "http://127.0.0.1:9093",
    "version": "4",
    "groupKey": '{}:{alertname="ShopErrors"}',
    "truncatedAlerts": 0,
}
GRAFANA: Dict[str, Any] = {
    **{key: value for key, value in ALERTMANAGER.items() if key != "alerts"},
    "alerts": [
        {
            **ALERT,
            "silenceURL": "http://127.0.0.1:3000/alerting/silence/new",
            "dashboardURL": "",
            "panelURL": "",
            "imageURL": "",
            "values": {"B": 44.2, "C": 1},
            "valueString": "[ var='B' labels={} value=44.2 ]",
        }
    ],
    "version": "1",
    "orgId": 1,
    "title": "[FIRING:1] ShopErrors",
    "state": "alerting",
    "message": "**Firing**",
}
CALL: Dict[str, Any] = {
    "type": "selfheal.call",
    "name": "ci",
    "service": "shop",
    "environment": "production",
    "id": "run-17",
    "reason": "the smoke test fails",
}
CODE: Dict[str, Any] = {
    "type": "selfheal.error_code",
    "timestamp": "2026-09-21T14:23:00+02:00",
    "level": "error",
    "message": "the cart cannot be saved",
    "error_code": "SHOP-CART-001",
    "severity": "critical",
    "service": "shop",
    "version": "1.4.2",
    "environment": "production",
    "trace_id": "4bf92f3577b34da6",
}

# --- where in them a text stands, and what must happen when it is another one than it should be
FIRST = ("alerts", 0)
ALERT_PLACES: Dict[Keys, str] = {
    **{(key,): NEUTRAL for key in ("receiver", "status", "groupKey", "externalURL")},
    ("version",): REFUSED,
    **{(part, "summary"): NEUTRAL for part in ("groupLabels", "commonLabels", "commonAnnotations")},
    (*FIRST, "status"): REFUSED,
    (*FIRST, "startsAt"): REFUSED,
    **{(*FIRST, key): NEUTRAL for key in ("endsAt", "generatorURL", "fingerprint")},
    (*FIRST, "annotations", "summary"): NEUTRAL,
    (*FIRST, "labels", "service"): REFUSED,
    (*FIRST, "labels", "environment"): REFUSED,
    **{
        (*FIRST, "labels", key): NEUTRAL
        for key in ("alertname", "severity", "version", "release", "error_code", "response", "owner", "slo", "instance")
    },
}
GRAFANA_PLACES: Dict[Keys, str] = {
    **{(key,): NEUTRAL for key in ("title", "state", "message", "orgId")},
    **{
        (*FIRST, key): NEUTRAL
        for key in ("silenceURL", "dashboardURL", "panelURL", "imageURL", "valueString", "values")
    },
}
# where a key of the sender's own making can stand
KEY_PLACES: Tuple[Keys, ...] = (
    (),
    ("groupLabels",),
    ("commonLabels",),
    ("commonAnnotations",),
    FIRST,
    (*FIRST, "labels"),
    (*FIRST, "annotations"),
)
CALL_PLACES = {"type": REFUSED, "name": NEUTRAL, "service": REFUSED, "environment": REFUSED, "id": REFUSED}
CALL_PLACES["reason"] = NEUTRAL
CODE_PLACES = {"type": REFUSED, "error_code": REFUSED, "timestamp": REFUSED, "service": REFUSED, "environment": REFUSED}
CODE_PLACES.update(dict.fromkeys(("level", "message", "severity", "version", "trace_id"), NEUTRAL))


def changed(body: Mapping[str, Any], keys: Keys, value: Any) -> Dict[str, Any]:
    """A copy of the body with another value at that place."""
    made: Any = copy.deepcopy(dict(body))
    inner = made
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    result: Dict[str, Any] = made
    return result


def added(body: Mapping[str, Any], keys: Keys, key: str, value: Any) -> Dict[str, Any]:
    """A copy of the body with one more key at that place."""
    return changed(body, (*keys, key), value)


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def _named(keys: Sequence[Any]) -> str:
    return ".".join(str(key) for key in keys) or "top"


# --- template injection


def exploits(proof: Path) -> Dict[str, str]:
    """Texts that make the file when a template engine of ansible-core renders them, by name."""
    touch = f"lookup('ansible.builtin.pipe','touch {proof}')"
    override = "#jinja2:variable_start_string:'[%', variable_end_string:'%]'\n"
    return {
        "expression": f"{{{{ {touch} }}}}",
        "no-blanks": f"{{{{{touch}}}}}",
        "stripped": f"{{{{- {touch} -}}}}",
        "statement": f"{{% set x = {touch} %}}{{{{ x }}}}",
        "loop": f"{{% for x in [{touch}] %}}{{% endfor %}}",
        "comment-first": f"{{# harmless #}}{{{{ {touch} }}}}",
        "override": f"{override}[% {touch} %]",
        "braces-before": f"{{{{{{ {touch} }}}}}}",
        "in-the-middle": f"shop{{{{ {touch} }}}}",
        "second-line": f"shop\n{{{{ {touch} }}}}",
        "zero-width": f"{{\u200b{{ {touch} }}}}",
        "raw": f"{{% raw %}}{{% endraw %}}{{{{ {touch} }}}}",
        "globals": f"{{{{ cycler.__init__.__globals__.os.popen('touch {proof}').read() }}}}",
        "query": f"{{{{ query('ansible.builtin.lines', 'touch {proof}') }}}}",
        "shell": f"$(touch {proof})`touch {proof}`; touch {proof} | touch {proof}",
        "yaml-tag": f"!!python/object/apply:os.system ['touch {proof}']",
    }


def _injected(proof: Path) -> Iterator[Attack]:
    texts = exploits(proof)
    for name, text in texts.items():
        for keys, must in ALERT_PLACES.items():
            yield Attack(f"template {name} in {_named(keys)}", encoded(changed(ALERTMANAGER, keys, text)), must)
    for name in ("expression", "statement", "override"):
        for keys, must in GRAFANA_PLACES.items():
            yield Attack(
                f"template {name} in Grafana's {_named(keys)}", encoded(changed(GRAFANA, keys, texts[name])), must
            )
        for keys in KEY_PLACES:
            yield Attack(
                f"template {name} as a key in {_named(keys)}",
                encoded(added(ALERTMANAGER, keys, texts[name], "x")),
                NEUTRAL,
            )
        for key, must in CALL_PLACES.items():
            yield Attack(f"template {name} in a call's {key}", encoded({**CALL, key: texts[name]}), must, CALLS)
        for key, must in CODE_PLACES.items():
            yield Attack(f"template {name} in a code's {key}", encoded({**CODE, key: texts[name]}), must, CALLS)


def _split(proof: Path) -> Iterator[Attack]:
    """A marker whose halves stand in two texts that a playbook may join."""
    halves = (("{", f"{{ lookup('ansible.builtin.pipe','touch {proof}') }}}}"), ("x{", f"% set x = '{proof}' %}}"))
    pairs = (("alertname", "owner"), ("severity", "owner"), ("owner", "slo"), ("version", "release"))
    for number, (left, right) in enumerate(halves):
        for one, other in pairs:
            body = changed(changed(ALERTMANAGER, (*FIRST, "labels", one), left), (*FIRST, "labels", other), right)
            yield Attack(f"marker {number} split over {one} and {other}", encoded(body), NEUTRAL)
    body = changed(ALERTMANAGER, (*FIRST, "labels", "owner"), "#")
    body = changed(body, (*FIRST, "labels", "slo"), "jinja2:variable_start_string:'[%'\n[% 1 %]")
    yield Attack("override split over owner and slo", encoded(body), NEUTRAL)


# --- what is no plain name of a group

PATTERNS = (
    *("all", "ALL", "ungrouped", "localhost", "*", "shop*", "sho?", "[s]hop", "shop[0]", "shop[0:5]", "~shop.*", "~.*"),
    *("shop,bank", "shop;bank", "shop:bank", "shop:&bank", "shop:!bank", "!shop", "&shop", "@/etc/passwd", "@shop"),
    *("/etc/passwd", "../shop", "../../etc/passwd", "shop/../bank", "./shop", "~root", "file:///etc/passwd"),
    *("\\\\host\\share", "shop\n", "\nshop", "shop\r\nall", "shop ", " shop", "sh op", "shop\t", "shop\x00", "\x00all"),
    *("shop\u200b", "\uff53\uff48\uff4f\uff50", "sh\u043ep", "\u202epohs", "shop\u2028all", "\uff21\uff2c\uff2c"),
    *("\u0161hop", "-shop", "--limit=all", "-e@/etc/passwd", "1shop", "10.0.0.7", "10.0.0.7:8080", "::1"),
    *("[::1]:9090", "shop.example.org", "shop-eu", "$(id)", "`id`", "shop;id", "shop'", 'shop"', "shop#x", "shop%0a"),
    *("shop|id", "shop&&id", "shop>x", "%(x)s", "%s", "s" * 65, "s" * 100_000, ""),
)


def _patterns() -> Iterator[Attack]:
    for number, text in enumerate(PATTERNS):
        about = f"{number} {text[:20]!a}"
        body = changed(ALERTMANAGER, (*FIRST, "labels", "service"), text)
        yield Attack(f"service {about}", encoded(body), REFUSED)
        yield Attack(f"service of a call {about}", encoded({**CALL, "service": text}), REFUSED, CALLS)
        if text not in ("", "all", "ALL", "ungrouped", "localhost", "shop-eu", "-shop"):
            body = changed(ALERTMANAGER, (*FIRST, "labels", "environment"), text)
            yield Attack(f"environment {about}", encoded(body), REFUSED)


HOSTS = ("@/etc/passwd", "all", ["all", "@/etc/shadow"], "localhost")
MEANT_FOR_US = (
    "hosts",
    "limit",
    "ansible_host",
    "ansible_connection",
    "ansible_python_interpreter",
    "delivery_service",
)


def _keys_of_ours() -> Iterator[Attack]:
    """Keys that mean something to ansible-rulebook, to ansible-core or to this collection, in the sender's hands."""
    for number, hosts in enumerate(HOSTS):
        yield Attack(f"meta.hosts {number} in the body", encoded({**ALERTMANAGER, "meta": {"hosts": hosts}}), NEUTRAL)
        body = added(ALERTMANAGER, FIRST, "meta", {"hosts": hosts})
        yield Attack(f"meta.hosts {number} in an alert", encoded(body), NEUTRAL)
    for key in MEANT_FOR_US:
        yield Attack(f"{key} in the body", encoded({**ALERTMANAGER, key: "localhost"}), NEUTRAL)
        yield Attack(f"{key} in the labels", encoded(added(ALERTMANAGER, (*FIRST, "labels"), key, "local")), NEUTRAL)
    for key in ("__ansible_unsafe", "__ansible_vault", "__ansible_type", "__class__", "__proto__", "$ref", "!unsafe"):
        value = "TrustedAsTemplate" if key == "__ansible_type" else "{{ 1 + 1 }}"
        yield Attack(f"{key} in the labels", encoded(added(ALERTMANAGER, (*FIRST, "labels"), key, value)), NEUTRAL)
        yield Attack(
            f"{key} as the service",
            encoded(changed(ALERTMANAGER, (*FIRST, "labels", "service"), {key: "shop"})),
            REFUSED,
        )
        yield Attack(f"{key} in the body", encoded({**ALERTMANAGER, key: {key: value}}), NEUTRAL)
    proof = {"selfheal": {"verified": "bearer", "source": "alertmanager", "ack": ["x"], "alarming": 0}}
    yield Attack("an alert that says it is verified", encoded({**ALERTMANAGER, "meta": proof}), NEUTRAL)
    ours = {"kind": "call", "status": "firing", "service": "shop", "trigger": {"kind": "call"}, "meta": proof}
    yield Attack("an event as the filter makes them", encoded(ours), REFUSED)
    for inside in (ALERTMANAGER, CALL):
        yield Attack(f"wrapped once more, {len(inside)}", encoded({"payload": inside, "meta": proof}), REFUSED)
        yield Attack(f"wrapped as Kafka does, {len(inside)}", encoded({"body": inside, "meta": proof}), REFUSED)


# --- wrong types and values

ODD: Tuple[Any, ...] = (None, True, 0, -1, 2**70, 1.5, [], {}, "", ["shop"], {"a": {"b": []}})
STRUCTURE: Dict[Keys, str] = {
    ("alerts",): REFUSED,
    FIRST: REFUSED,
    (*FIRST, "labels"): REFUSED,
    (*FIRST, "status"): REFUSED,
    (*FIRST, "startsAt"): REFUSED,
    ("version",): REFUSED,
    (*FIRST, "fingerprint"): NEUTRAL,
    (*FIRST, "endsAt"): NEUTRAL,
    (*FIRST, "annotations"): NEUTRAL,
    ("groupLabels",): NEUTRAL,
    ("truncatedAlerts",): NEUTRAL,
    ("status",): NEUTRAL,
}


def _wrong_types() -> Iterator[Attack]:
    for keys, must in STRUCTURE.items():
        for value in ODD:
            yield Attack(f"{_named(keys)} is {value!a}", encoded(changed(ALERTMANAGER, keys, value)), must)
    for key in ("service", "alertname", "owner", "environment", "severity"):
        for value in (None, True, 7, [], {}, ["shop"]):
            body = changed(ALERTMANAGER, (*FIRST, "labels", key), value)
            yield Attack(f"label {key} is {value!a}", encoded(body), REFUSED)
    for key in ("name", "service", "id"):
        for value in (None, True, 7, [], {}, ["shop"], ""):
            yield Attack(f"a call's {key} is {value!a}", encoded({**CALL, key: value}), REFUSED, CALLS)
    for value in (*ODD, "text", [ALERTMANAGER], [[[]]]):
        yield Attack(f"the body is {repr(value)[:20]}", encoded(value), REFUSED)
    for number, text in enumerate((" ", "\x00", "\u200b\u200b", "\n\t", "\ud800")):
        body = changed(ALERTMANAGER, (*FIRST, "labels", "alertname"), text)
        yield Attack(f"a name that nobody can see {number}", encoded(body), REFUSED)
        yield Attack(f"a caller that nobody can see {number}", encoded({**CALL, "name": text}), REFUSED, CALLS)
    for key in ("service", "alertname"):
        labels = {name: value for name, value in ALERT["labels"].items() if name != key}
        yield Attack(f"without the label {key}", encoded(changed(ALERTMANAGER, (*FIRST, "labels"), labels)), REFUSED)


TIMES = (
    *("yesterday", "2026-09-21", "2026-09-21T14:23:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "1e999", "0"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "-2026-09-21T14:23:00Z", "2026-09-21T25:00:00Z", "2026-W39-1"),
    *(
        "\uff12\uff10\uff12\uff16-09-21T14:23:00Z",
        "2026-09-21T14:23:00Z\n",
        "2026-09-21T14:23:00." + "9" * 10_000 + "Z",
        "1969-12-31T00:00:00Z",
    ),
)


def _times() -> Iterator[Attack]:
    for number, text in enumerate(TIMES):
        yield Attack(f"startsAt {number}", encoded(changed(ALERTMANAGER, (*FIRST, "startsAt"), text)), REFUSED)
        yield Attack(f"endsAt {number}", encoded(changed(ALERTMANAGER, (*FIRST, "endsAt"), text)), NEUTRAL)
    ended = changed(changed(ALERTMANAGER, (*FIRST, "status"), "resolved"), (*FIRST, "endsAt"), "2020-01-01T00:00:00Z")
    yield Attack("it ended before it began", encoded(ended), NEUTRAL)
    for text in ("9999-12-31T23:59:59Z", "2026-09-21T14:23:00+99:99", "2026-09-21T14:23:00-23:59"):
        yield Attack(f"startsAt {text}", encoded(changed(ALERTMANAGER, (*FIRST, "startsAt"), text)), NEUTRAL)


# --- other producers

OTHERS: Dict[str, Any] = {
    "version 3": {**ALERTMANAGER, "version": "3"},
    "version 5": {**ALERTMANAGER, "version": "5"},
    "version 4 as a number": {**ALERTMANAGER, "version": 4},
    "version 4.0": {**ALERTMANAGER, "version": "4.0"},
    "without a version": {key: value for key, value in ALERTMANAGER.items() if key != "version"},
    "Grafana without its orgId": {key: value for key, value in GRAFANA.items() if key != "orgId"},
    "Grafana's own alerting before 9": {"ruleName": "x", "state": "alerting", "evalMatches": [], "title": "x"},
    "what Prometheus posts": [{key: ALERT[key] for key in ("labels", "annotations", "startsAt", "generatorURL")}],
    "PagerDuty": {"event": {"event_type": "incident.triggered", "data": {"service": {"id": "shop"}}}},
    "GitHub": {"action": "opened", "repository": {"full_name": "example/shop"}},
    "CloudEvents": {"specversion": "1.0", "type": "org.example.alert", "source": "/shop", "id": "1", "data": ALERT},
    "a type of ours that is none": {**CALL, "type": "selfheal.rollback"},
    "Grafana's data source is gone": changed(GRAFANA, (*FIRST, "labels", "alertname"), "DatasourceError"),
    "Grafana has no data": changed(GRAFANA, (*FIRST, "labels", "alertname"), "DatasourceNoData"),
    "no alerts": {**ALERTMANAGER, "alerts": []},
}


def _others() -> Iterator[Attack]:
    for name, body in OTHERS.items():
        yield Attack(f"producer: {name}", encoded(body), REFUSED)


# --- size and depth


def _nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + "1" + closing * depth


def _sized() -> Iterator[Attack]:
    many = [changed(ALERT, ("fingerprint",), f"{number:016x}") for number in range(5000)]
    bodies: Dict[str, Tuple[Any, str]] = {
        "5000 alerts": ({**ALERTMANAGER, "alerts": many}, NEUTRAL),
        "5000 alerts that are none": ({**ALERTMANAGER, "alerts": [None] * 5000}, REFUSED),
        "a label of 900 kB": (changed(ALERTMANAGER, (*FIRST, "labels", "owner"), "{" * 900_000), NEUTRAL),
        "a name of 900 kB": (changed(ALERTMANAGER, (*FIRST, "labels", "alertname"), "x" * 900_000), NEUTRAL),
        "a service of 900 kB": (changed(ALERTMANAGER, (*FIRST, "labels", "service"), "s" * 900_000), REFUSED),
        "a key of 900 kB": (added(ALERTMANAGER, (*FIRST, "labels"), "k" * 900_000, "x"), NEUTRAL),
        "40000 labels": (changed(ALERTMANAGER, (*FIRST, "labels"), {f"l{n}": "x" for n in range(40_000)}), REFUSED),
        "40000 keys": ({**ALERTMANAGER, **{f"k{n}": n for n in range(40_000)}}, NEUTRAL),
        "40000 common labels": ({**ALERTMANAGER, "commonLabels": {f"l{n}": "{{ x }}" for n in range(40_000)}}, NEUTRAL),
    }
    for name, (body, must) in bodies.items():
        yield Attack(name, encoded(body), must)
    huge = encoded({**ALERTMANAGER, "commonAnnotations": {"summary": "x" * 5_000_000}})
    yield Attack("5 MB", huge, NEUTRAL)
    yield Attack("5 MB, packed", gzip.compress(huge), UNREADABLE, headers={**JSON, "Content-Encoding": "gzip"})


def _deep() -> Iterator[Attack]:
    good = json.dumps(ALERTMANAGER)
    places = {
        "top": "{}",
        "annotations": good.replace('"7 % of the shop\'s requests fail"', "{}", 1),
        "labels": good.replace('"team-shop"', "{}", 1),
        "alerts": good.replace(json.dumps([ALERT]), "{}", 1),
    }
    for name, text in places.items():
        for kind, opening, closing in (("lists", "[", "]"), ("objects", '{"a":', "}")):
            for depth, must in ((100, NEUTRAL if name == "annotations" else REFUSED), (200_000, UNREADABLE)):
                body = text.replace("{}", _nested(depth, opening, closing), 1)
                yield Attack(f"{depth} {kind} deep in {name}", body.encode(), must)
    yield Attack("200000 lists that never end", b"[" * 200_000, UNREADABLE)
    yield Attack("200000 objects that never end", b'{"alerts":' * 200_000, UNREADABLE)


# --- broken encodings, and what is no JSON


def _encodings() -> Iterator[Attack]:
    good = encoded(ALERTMANAGER)
    invalid = (b"\xff", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80", b"\x80", b"\xe2\x82")
    # half of a surrogate pair, which Python's parser of JSON takes in bytes, and no strict reader of UTF-8 does
    half = b"\xed\xa0\x80"
    places = {b"team-shop": NEUTRAL, b"ShopErrors": NEUTRAL, b'"shop"': REFUSED, b"summary": NEUTRAL}
    for what, must in places.items():
        for number, broken in enumerate(invalid):
            text = good.replace(what, what[:-1] + broken + what[-1:])
            yield Attack(f"broken UTF-8 {number} in {what.decode()}", text, UNREADABLE)
        yield Attack(f"half a pair in {what.decode()}", good.replace(what, what[:-1] + half + what[-1:]), must)
    for number, escape in enumerate((rb"\ud800", rb"\udfff", rb"\ud800\ud800", rb"\u0000", rb"\u202e", rb"\ufeff")):
        for key, must in (("owner", NEUTRAL), ("alertname", NEUTRAL), ("service", REFUSED), ("instance", NEUTRAL)):
            text = encoded(changed(ALERTMANAGER, (*FIRST, "labels", key), "before-ESCAPE-after"))
            yield Attack(f"escape {number} in {key}", text.replace(b"ESCAPE", escape), must)
        text = encoded(added(ALERTMANAGER, (*FIRST, "labels"), "ESCAPE", "x")).replace(b"ESCAPE", escape)
        yield Attack(f"escape {number} as a label", text, NEUTRAL)


def _not_json(proof: Path) -> Iterator[Attack]:
    good = encoded(ALERTMANAGER)
    bodies: Dict[str, bytes] = {
        "nothing": b"",
        "a blank": b" ",
        "half of it": good[: len(good) // 2],
        "two of them": good + good,
        "something after it": good + b"garbage",
        "a comment in it": good.replace(b"{", b"{/* x */", 1),
        "a comma too many": good[:-1] + b",}",
        "single quotes": good.replace(b'"', b"'"),
        "a line break in a text": good.replace(b"team-shop", b"team\nshop"),
        "a null byte in a text": good.replace(b"team-shop", b"team\x00shop"),
        "YAML": f"alerts: !!python/object/apply:os.system ['touch {proof}']".encode(),
        "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
        "a form": b"payload=%7B%22version%22%3A%224%22%7D",
        "a pickle": b"cposix\nsystem\n(S'touch " + str(proof).encode() + b"'\ntR.",
        "zeros": b"\x00" * 1000,
        "packed, and not said": gzip.compress(good),
        "a number of 10000 digits": good.replace(b'"truncatedAlerts": 0', b'"truncatedAlerts": ' + b"9" * 10_000),
        "an escape cut off": good.replace(b"team-shop", rb"team\u12"),
        "hexadecimal": good.replace(b'"truncatedAlerts": 0', b'"truncatedAlerts": 0x10'),
    }
    for name, body in bodies.items():
        yield Attack(f"no JSON: {name}", body, UNREADABLE)


def _loose_json() -> Iterator[Attack]:
    """What Python's parser takes, and others may not."""
    good = encoded(ALERTMANAGER)
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"9" * 4000):
        text = good.replace(b'"truncatedAlerts": 0', b'"truncatedAlerts": ' + number)
        yield Attack(f"truncatedAlerts is {number[:10].decode()}", text, NEUTRAL)
        yield Attack(f"owner is {number[:10].decode()}", good.replace(b'"team-shop"', number), REFUSED)
        text = good.replace(b'"2026-09-21T14:23:00.123456789Z"', number)
        yield Attack(f"startsAt is {number[:10].decode()}", text, REFUSED)
    twice = good.replace(b'"service": "shop"', b'"service": "shop", "service": "@/etc/passwd"')
    yield Attack("the service twice, a pattern last", twice, REFUSED)
    twice = good.replace(b'"service": "shop"', b'"service": "@/etc/passwd", "service": "shop"')
    yield Attack("the service twice, a pattern first", twice, NEUTRAL)
    yield Attack("a byte order mark", b"\xef\xbb\xbf" + good, NEUTRAL)
    for encoding in ("utf-16", "utf-32", "utf-16-le"):
        yield Attack(encoding, json.dumps(ALERTMANAGER).encode(encoding), NEUTRAL)


# --- headers

FORGED: Dict[str, Mapping[str, str]] = {
    "nothing": {},
    "an empty token": {"Authorization": "Bearer "},
    "a scheme without a token": {"Authorization": "Bearer"},
    "the token None": {"Authorization": "Bearer None"},
    "the token null": {"Authorization": "Bearer null"},
    "two tokens": {"Authorization": "Bearer a b"},
    "a wrong token": {"Authorization": "Bearer wrong"},
    "a token of 60 kB": {"Authorization": "Bearer " + "a" * 6_000},
    "a token that is no ASCII": {"Authorization": "Bearer t\u00f6ken"},
    "a template": {"Authorization": "Bearer {{ token }}"},
    "no password": {"Authorization": "Basic dXNlcjo="},
    "no colon": {"Authorization": "Basic dXNlcg=="},
    "no base64": {"Authorization": "Basic %%%%"},
    "an unknown scheme": {"Authorization": "Negotiate abc"},
    "the scheme none": {"Authorization": "none"},
    "a JWT without a signature": {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."},
    "a proxy's word": {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    "a proxy's user": {"X-Remote-User": "admin", "Remote-User": "admin", "X-Forwarded-User": "admin"},
    "a proxy's certificate": {"X-SSL-Client-Verify": "SUCCESS", "X-SSL-Client-S-DN": "CN=alertmanager"},
    "another path by header": {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
    "another method by header": {"X-HTTP-Method-Override": "GET"},
    "a token in a cookie": {"Cookie": "token=wrong; Authorization=Bearer wrong"},
    "a signature of nothing": {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,"},
    "a signature without an id": {"webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
    "a signature without a time": {"webhook-id": "msg_1", "webhook-signature": "v1,AAAA"},
    "an older signature": {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v0,AAAA"},
    "a signature of another sort": {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1a,AAAA"},
    "a time that is no number": {"webhook-id": "m", "webhook-timestamp": "now", "webhook-signature": "v1,AAAA"},
    "a time that is huge": {"webhook-id": "m", "webhook-timestamp": "9" * 400, "webhook-signature": "v1,AAAA"},
    "a time that is infinite": {"webhook-id": "m", "webhook-timestamp": "inf", "webhook-signature": "v1,AAAA"},
    "a thousand signatures": {"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA " * 700},
    "GitHub's signature": {"X-Hub-Signature-256": "sha256=" + "0" * 64},
}


def _forged() -> Iterator[Attack]:
    for name, headers in FORGED.items():
        yield Attack(f"proof: {name}", encoded(ALERTMANAGER), UNPROVEN, headers={**JSON, **headers})
        yield Attack(f"proof of a call: {name}", encoded(CALL), UNPROVEN, CALLS, {**JSON, **headers})


def attacks(proof: Path) -> List[Attack]:
    """All of them; `proof` is the file that none of them may make."""
    made: List[Callable[[], Iterator[Attack]]] = [
        lambda: _injected(proof),
        lambda: _split(proof),
        *(_patterns, _keys_of_ours, _wrong_types, _times, _others, _sized, _deep, _encodings),
        lambda: _not_json(proof),
        _loose_json,
        _forged,
    ]
    return [attack for some in made for attack in some()]


if __name__ == "__main__":
    counted: Dict[str, int] = {}
    for attack in attacks(Path("/tmp/proof")):
        counted[attack.must] = counted.get(attack.must, 0) + 1
    sys.stdout.write(f"{sum(counted.values())} attacks: {counted}\n")
