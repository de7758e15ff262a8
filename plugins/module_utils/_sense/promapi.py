# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP API v1 of Prometheus, as Thanos, Mimir and VictoriaMetrics speak it too: questions in, lines out.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

from .client import Client, NoAnswer, Page, http_error
from .line import Line, Point

# the server has understood, and the question is wrong; any other error is the server's own
_OUR_FAULT = ("bad_data", "execution")
_LONGEST = 200


@dataclass(frozen=True)
class Result:
    """What one query gave: a matrix (points over time) or a vector (one point each)."""

    kind: str
    lines: Sequence[Line]
    warnings: Tuple[str, ...] = ()


class Api:
    """Asks one server. Every error is a NoAnswer that says whose fault it is."""

    def __init__(self, client: Client, url: str) -> None:
        base = url.rstrip("/")
        self._base = base if base.endswith("/api/v1") else f"{base}/api/v1"
        self._client = client

    def query(self, expression: str, *, at: float, timeout: float) -> Result:
        form = {"query": expression, "time": f"{at:.3f}", "timeout": f"{max(1, int(timeout * 1000))}ms"}
        page = self._client.post(f"{self._base}/query", form, timeout=timeout)
        answer = _answer(page)
        data = answer.get("data")
        if not isinstance(data, dict) or "resultType" not in data:
            raise NoAnswer("provider_error", f"{page.url} answers JSON that is not of the Prometheus API")
        return Result(str(data["resultType"]), _lines(page, data), _warnings(answer))

    def declares(self, metric: str, *, timeout: float) -> bool:
        """Does some place declare the metric, even when nothing has been counted yet? Unknown is no."""
        # a page in the OpenMetrics format declares a counter without the ending of its series
        family = metric[: -len("_total")] if metric.endswith("_total") else metric
        return any(self._declares(name, timeout) for name in dict.fromkeys((metric, family)))

    def _declares(self, name: str, timeout: float) -> bool:
        try:
            page = self._client.get(f"{self._base}/metadata?metric={name}&limit=1", timeout=timeout)
            data = _answer(page).get("data")
        except NoAnswer:
            return False
        return isinstance(data, dict) and name in data


def range_of(seconds: float) -> str:
    """A PromQL duration."""
    return f"{max(1, round(seconds * 1000))}ms"


def _answer(page: Page) -> Mapping[str, object]:
    if page.is_html:
        raise http_error(page) or NoAnswer(
            "provider_error", f"{page.url} answers HTML: this is not where the Prometheus API is"
        )
    try:
        answer = json.loads(page.body)
    except ValueError:
        raise http_error(page, _text(page)) or NoAnswer("provider_error", f"{page.url} answers no JSON") from None
    if not isinstance(answer, dict):
        raise NoAnswer("provider_error", f"{page.url} answers JSON that is not of the Prometheus API")
    if answer.get("status") == "error" or page.status >= 400:
        raise _error(page, answer)
    return answer


def _error(page: Page, answer: Mapping[str, object]) -> NoAnswer:
    said = _short(str(answer.get("error", "")))
    if answer.get("errorType") in _OUR_FAULT:
        return NoAnswer("query_error", said)
    return http_error(page, said) or NoAnswer("provider_error", f"{page.url}: {said}")


def _text(page: Page) -> str:
    return _short(page.body[: 2 * _LONGEST].decode("utf-8", errors="replace"))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _warnings(answer: Mapping[str, object]) -> Tuple[str, ...]:
    said: List[str] = []
    for key in ("warnings", "infos"):
        listed = answer.get(key)
        if isinstance(listed, list):
            said += [_short(str(warning)) for warning in listed]
    return tuple(said)


def _lines(page: Page, data: Mapping[str, object]) -> List[Line]:
    result = data.get("result")
    if data["resultType"] == "scalar":
        return [Line({}, [_point(result)])]
    if data["resultType"] not in ("vector", "matrix") or not isinstance(result, list):
        raise NoAnswer("query_error", f"the query gives a {data['resultType']}, not numbers")
    try:
        return [_line(item) for item in result]
    except (ValueError, TypeError, KeyError, IndexError):
        raise NoAnswer("provider_error", f"{page.url} answers series that cannot be read") from None


def _line(item: Mapping[str, object]) -> Line:
    metric = item.get("metric")
    labels: Dict[str, str] = {str(k): str(v) for k, v in metric.items()} if isinstance(metric, dict) else {}
    points = _list(item.get("values")) or ([item["value"]] if "value" in item else [])
    histograms = _list(item.get("histograms")) or ([item["histogram"]] if "histogram" in item else [])
    return Line(labels, [_point(point) for point in points], [_histogram(sample) for sample in histograms])


def _list(raw: object) -> List[object]:
    return raw if isinstance(raw, list) else []


def _point(raw: object) -> Point:
    if not isinstance(raw, list):
        raise ValueError("a point is a pair")
    return float(raw[0]), float(raw[1])


def _histogram(raw: object) -> Tuple[float, Mapping[str, object]]:
    if not isinstance(raw, list) or not isinstance(raw[1], dict):
        raise ValueError("a histogram is a pair")
    return float(raw[0]), raw[1]
