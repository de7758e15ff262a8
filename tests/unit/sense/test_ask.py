# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From gates to sources: each source is asked once, for all of its gates, here or on a gate host."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Dict, Iterator, List

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, parse_policy
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.ask import asked, query_of
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Query, Reading, Target

PROMETHEUS = {"type": "prometheus", "url": "http://127.0.0.1:1", "headers": {"X-Scope-OrgID": "shop"}}
TARGETS: List[Dict[str, Any]] = [
    {"place": "web1", "urls": ["http://127.0.0.1:1/metrics"], "instance": ""},
    {"place": "web2", "urls": (), "instance": "10.0.0.2"},
]


def policy(*gates: Dict[str, Any], source: object = None) -> Policy:
    return parse_policy({"source": source or {"type": "exposition"}, "gates": list(gates)}, "shop")


ERRORS: Dict[str, Any] = {"name": "errors", "bad": 'hits{code="500"}', "total": "hits", "max": 0.1, "timeout": 2}
SLOW: Dict[str, Any] = {"name": "slow", "type": "latency", "histogram": "took", "over": 0.25, "max": 0.1}
QUEUE: Dict[str, Any] = {"name": "queue", "type": "value", "value": "queue", "max": 9, "source": PROMETHEUS}


def test_gates_that_share_a_source_are_asked_together() -> None:
    other = {**QUEUE, "name": "other", "source": dict(reversed(PROMETHEUS.items()))}  # the same, written otherwise
    first, second = asked(policy(ERRORS, QUEUE, SLOW, other), TARGETS)
    assert [query.gate for query in first.queries] == ["errors", "slow"]
    assert [query.gate for query in second.queries] == ["queue", "other"]
    assert second.source == PROMETHEUS
    assert first.targets == (Target("web1", ("http://127.0.0.1:1/metrics",)), Target("web2", (), "10.0.0.2"))


def test_a_gates_question_is_carried_whole() -> None:
    errors, slow, queue = policy(ERRORS, SLOW, QUEUE).gates
    assert query_of(errors) == Query("errors", bad='hits{code="500"}', total="hits", timeout=2)
    assert query_of(slow) == Query("slow", histogram="took", over=0.25)
    assert query_of(queue) == Query("queue", value="queue")


def test_a_gate_host_is_asked_the_same_in_plain_options() -> None:
    (ask,) = asked(policy(ERRORS, SLOW), TARGETS)
    options = ask.as_options()
    assert json.loads(json.dumps(options)) == options
    queries, targets = options["queries"], options["targets"]
    assert isinstance(queries, list) and isinstance(targets, list)
    assert tuple(Query(**query) for query in queries) == ask.queries
    assert tuple(Target(**{**target, "urls": tuple(target.get("urls", ()))}) for target in targets) == ask.targets


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'hits{code="200"} 90\nhits{code="500"} 10\n'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests read no log."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    server.shutdown()
    server.server_close()


def test_its_sampler_measures(url: str) -> None:
    (ask,) = asked(policy(ERRORS), [{"place": "web1", "urls": [url]}])
    with ask.sampler() as sampler:
        answer = sampler.sample().answers["errors"]["web1"]
    assert isinstance(answer, Reading) and (answer.bad, answer.total) == (10, 100)
