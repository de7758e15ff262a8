# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any number of broken bodies, made from good ones by a seeded generator: the same seed makes the same bodies.

`python tests/tools/fuzz_bodies.py 100000` sends so many through the event filter, and says what became of them.
"""

from __future__ import annotations

import copy
import json
import logging
import random
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

from attack_corpus import ALERTMANAGER, CALL, CODE, FIRST, GRAFANA, PATTERNS, changed
from captured_alerts import RESOLVED, TRUNCATED
from filtered import alerts, flaws

WATCHDOG = changed(ALERTMANAGER, (*FIRST, "labels"), {"alertname": "Watchdog", "severity": "none"})
GOOD = (ALERTMANAGER, ALERTMANAGER, TRUNCATED, RESOLVED, GRAFANA, CALL, CODE, WATCHDOG)
TEXTS = (
    *("{{ 1 + 1 }}", "{%", "{#", "{", "}", "#", "#jinja2:", "#JINJA2:x", "{{{", "{{%", "%}", "\\", "'", '"', "\x00"),
    *(
        "\n",
        "\ud800",
        "\udfff",
        "\u202e",
        "\u2028",
        "\ufeff",
        "\U0010ffff",
        "e\u0301",
        "Watchdog",
        "firing",
        "resolved",
    ),
    *("0001-01-01T00:00:00Z", "2026-09-21T14:23:00Z", "9999-12-31T23:59:59+23:59", "SHOP-CART-001", "selfheal.call"),
    *("1", "4", "Watchdog", *(pattern for pattern in PATTERNS if len(pattern) < 100)),
)
KEYS = (
    *("alerts", "labels", "service", "environment", "alertname", "status", "startsAt", "endsAt", "fingerprint", "type"),
    *("payload", "body", "meta", "selfheal", "version", "error_code", "hosts", "id", "name", "orgId", "timestamp"),
)
VALUES: Tuple[Any, ...] = (None, True, False, 0, -1, 1.5, 2**64, 10**400, float("nan"), float("inf"), [], {}, "", [[]])
OPTIONS: Tuple[Dict[str, Any], ...] = (
    {},
    {"calls": "accept"},
    {"one_event_per": "service", "calls": "accept"},
    {"services": {"shop": "shop", "all": "bank", "": "crm", "{{ 1 + 1 }}": "crm"}, "calls": "accept"},
    {"service_label": ["owner", "service"], "labels": ["owner", "instance", "alertname"], "max_alerts": 2},
)


class Fuzzer:
    """Bodies of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._changes: Tuple[Callable[[Any], Any], ...] = (
            *(self._replace, self._replace, self._text, self._text, self._text),
            *(self._drop, self._add, self._add, self._repeat, self._wrap, self._mix),
        )

    def body(self) -> Any:
        """A good body with one to six things changed."""
        made = copy.deepcopy(self._random.choice(GOOD))
        for _change in range(self._random.choice((1, 1, 1, 2, 3, 6))):
            made = self._random.choice(self._changes)(made)
        return made

    def text(self) -> bytes:
        """A body as JSON with some bytes of it changed, which may still be JSON."""
        raw = bytearray(json.dumps(self.body()).encode())
        for _change in range(self._random.choice((1, 1, 2, 8))):
            at = self._random.randrange(len(raw) + 1)
            raw[at : at + self._random.choice((0, 1, 1, 20))] = self._random.randbytes(
                self._random.choice((0, 1, 1, 4))
            )
        return bytes(raw)

    def value(self) -> Any:
        """A value that may not be what belongs there."""
        kind = self._random.random()
        if kind < 0.6:
            return self._random.choice(TEXTS)
        if kind < 0.9:
            return copy.deepcopy(self._random.choice(VALUES))
        return copy.deepcopy(self._random.choice((*GOOD, self._random.choice(TEXTS) * 2000)))

    def _places(self, body: Any) -> List[Tuple[Any, Any]]:
        """Every container and key in it."""
        found: List[Tuple[Any, Any]] = []
        waiting = [body]
        while waiting and len(found) < 300:
            one = waiting.pop()
            keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
            for key in keys:
                found.append((one, key))
                waiting.append(one[key])
        return found

    def _place(self, body: Any) -> Tuple[Any, Any]:
        places = self._places(body)
        return self._random.choice(places) if places else ([None], 0)

    def _replace(self, body: Any) -> Any:
        inside, key = self._place(body)
        inside[key] = self.value()
        return body

    def _text(self, body: Any) -> Any:
        """Put a text into a text."""
        inside, key = self._place(body)
        if isinstance(inside[key], str):
            at = self._random.randrange(len(inside[key]) + 1)
            inside[key] = inside[key][:at] + self._random.choice(TEXTS) + inside[key][at:]
        return body

    def _drop(self, body: Any) -> Any:
        inside, key = self._place(body)
        del inside[key]
        return body

    def _add(self, body: Any) -> Any:
        inside, _key = self._place(body)
        if isinstance(inside, dict):
            inside[self._random.choice((*KEYS, self._random.choice(TEXTS)))] = self.value()
        else:
            inside.append(self.value())
        return body

    def _repeat(self, body: Any) -> Any:
        inside, key = self._place(body)
        inside[key] = [copy.deepcopy(inside[key]) for _copy in range(self._random.choice((1, 2, 5)))]
        return body

    def _wrap(self, body: Any) -> Any:
        said = {"verified": self._random.choice(("", "bearer", "mtls", None)), "ack": ["x"], "alarming": self.value()}
        return {self._random.choice(("payload", "body", "x")): body, "meta": {"selfheal": said, "hosts": self.value()}}

    def _mix(self, body: Any) -> Any:
        other = copy.deepcopy(self._random.choice(GOOD))
        return {**body, **other} if isinstance(body, dict) else other


def events(count: int, seed: int) -> Iterator[Any]:
    """What a webhook source would hand over for `count` bodies, a fifth of them with changed bytes."""
    fuzzer = Fuzzer(seed)
    for number in range(count):
        if number % 5:
            yield {"payload": fuzzer.body(), "meta": {}} if number % 2 else fuzzer.body()
            continue
        try:
            yield {"payload": json.loads(fuzzer.text())}
        except ValueError:  # a source refuses it
            yield None


def fuzz(count: int, seed: int = 0) -> Dict[str, int]:
    """How many events of each kind came of so many bodies; raises AssertionError at the first that is not right."""
    logging.getLogger("selfheal.delivery.alerts").setLevel(logging.ERROR)  # not a line for each refusal
    kinds: Dict[str, int] = {}
    for number, event in enumerate(events(count, seed)):
        options = OPTIONS[number % len(OPTIONS)]
        made = alerts(event, **options)
        wrong = flaws(made)
        if any("internal" in one["reason"] or "please report" in one["reason"] for one in made):
            wrong.append(made[0]["reason"])
        if wrong:
            raise AssertionError(f"body {number} of seed {seed}, {options}: {wrong}\n{event!r}")
        for one in made:
            kinds[one["kind"]] = kinds.get(one["kind"], 0) + 1
    return kinds


def main(count: str = "100000", seed: str = "0") -> None:
    begun = time.monotonic()
    kinds = fuzz(int(count), int(seed))
    print(f"{count} bodies of seed {seed} in {time.monotonic() - begun:.0f} s: {kinds}")


if __name__ == "__main__":
    main(*sys.argv[1:])
