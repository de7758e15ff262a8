# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's own metrics for Prometheus: what it decided, what came of it, and whether it can be relied on.

Everything is read from the ledger each time, so that no process has to stay for it, and nothing is counted twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._errors import OptionError, TellError
from .._guard.checks import BREAKER_STATES
from .channel import check_url
from .heartbeat import Beat, reach

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

try:
    import prometheus_client
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
except ImportError as error:
    # told where it is needed: Ansible loads this file also on machines that only look at it
    MISSING: Optional[ImportError] = error
else:
    MISSING = None

Counters = Mapping[str, Mapping[str, float]]

# what the counters of the ledger are called here: the first part of their names → metric, its labels, its help
_COUNTED: Mapping[str, Tuple[str, Sequence[str], str]] = {
    "decisions": ("selfheal_decisions", ("action", "verdict"), "Answers to the question whether to act."),
    "suppressed": ("selfheal_suppressed", ("action", "reason"), "Actions that were not allowed, by reason."),
    "outcomes": ("selfheal_outcomes", ("kind", "state"), "How rollouts and actions ended, or where they are held."),
    "verified": ("selfheal_verified", ("verdict",), "What the metrics of a service said after an action."),
}


@dataclass(frozen=True)
class Health:
    """What is not counted: the state at the moment. Times are epoch seconds.

    `services` are the outlooks (`_guard.outlook`); `pauses` is by service, '' for all, when each ends, infinity for
    never; `running` counts unfinished rollouts by service, kind and state; `entries` is the newest one's number.
    """

    services: Sequence[Mapping[str, object]] = ()
    pauses: Mapping[str, float] = field(default_factory=dict)
    running: Mapping[Tuple[str, str, str], int] = field(default_factory=dict)
    entries: int = 0
    drift: float = 0.0
    watchdog_at: Optional[float] = None


class Gateway:
    """A Pushgateway. What is pushed replaces what the same job and instance pushed before."""

    def __init__(self, url: str, job: str, instance: str, timeout: float) -> None:
        check_url(url, confidential=False)
        if not job or not instance:
            raise OptionError("What is pushed needs a job and an instance", mend="Set job and instance")
        self._url, self._job, self._instance, self._timeout = url, job, instance, timeout

    def push(self, families: Iterable["Metric"]) -> None:
        prometheus_client.push_to_gateway(
            self._url,
            job=self._job,
            registry=registry(families),
            grouping_key={"instance": self._instance},
            timeout=self._timeout,
            handler=_handler,
        )


def _handler(
    url: str, method: str, timeout: Optional[float], headers: List[Tuple[str, str]], data: bytes
) -> Callable[[], None]:
    """prometheus_client's own would follow redirects, and name the whole URL in its errors."""
    return lambda: reach(method, url, data, dict(headers), timeout or 10.0)


class _Families:
    """A collector of what is there already."""

    def __init__(self, families: Iterable["Metric"]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator["Metric"]:
        return iter(self._families)


def registry(families: Iterable["Metric"]) -> "prometheus_client.CollectorRegistry":
    if MISSING is not None:
        raise TellError(
            "The Python library prometheus_client is missing on the controller", mend="Install prometheus_client"
        ) from None
    collected = prometheus_client.CollectorRegistry(auto_describe=False)
    collected.register(_Families(families))
    return collected


def exposition(families: Iterable["Metric"]) -> str:
    """The text format 0.0.4."""
    return bytes(prometheus_client.generate_latest(registry(families))).decode()


def write(path: str, families: Iterable["Metric"]) -> None:
    """Replace a file of the node exporter's textfile collector; its time of change says when."""
    try:
        prometheus_client.write_to_textfile(path, registry(families))
    except OSError as error:
        raise TellError(
            f"The metrics {path} cannot be written: {error.strerror}", mend="Name a file that this user may write"
        ) from None


def beating(beat: Beat) -> List["Metric"]:
    """A heartbeat as metrics; others alarm on the first one's age, and the second one says when it is too old."""
    return [
        _gauge(
            "selfheal_heartbeat_timestamp_seconds", "When the controller last reached its ledger.", (), [((), beat.at)]
        ),
        _gauge("selfheal_heartbeat_interval_seconds", "How often it says so.", (), [((), beat.every)]),
    ]


def figures(counters: Counters, health: Health, chain: Sequence[bool] = ()) -> List["Metric"]:
    """Every metric, with the service as a label. `chain` says whether that holds; it is empty when nobody looked."""
    whole = [((), float(ok)) for ok in chain]
    return [
        *_counted(counters),
        *_lasted(counters),
        *_succeeded(counters),
        *_state(health),
        _gauge("selfheal_chain_ok", "1 when the ledger is as it was written.", (), whole),
        *_controller(health),
    ]


def _counted(counters: Counters) -> Iterator["Metric"]:
    for begin, (name, labels, told) in _COUNTED.items():
        family = CounterMetricFamily(name, told, labels=("service", *labels))
        for service, parts, value in _rows(counters, begin, len(labels)):
            family.add_metric((service, *parts), value)
        yield family


def _lasted(counters: Counters) -> Iterator["Metric"]:
    family = SummaryMetricFamily(
        "selfheal_action_duration_seconds",
        "From intent to outcome of rollouts and actions.",
        labels=("service", "kind"),
    )
    sums: Dict[Tuple[str, str], Dict[str, float]] = {}
    for service, (kind, what), value in _rows(counters, "seconds", 2):
        sums.setdefault((service, kind), {})[what] = value
    for labels, found in sums.items():
        family.add_metric(labels, count_value=int(found.get("count", 0)), sum_value=found.get("sum", 0.0))
    yield family


def _succeeded(counters: Counters) -> Iterator["Metric"]:
    rows = [((service, kind), at) for service, (kind,), at in _rows(counters, "last_success", 1)]
    yield _gauge("selfheal_last_success_timestamp_seconds", "When one went well last.", ("service", "kind"), rows)


def _rows(counters: Counters, begin: str, parts: int) -> Iterator[Tuple[str, Tuple[str, ...], float]]:
    """Service, the other parts of the counter's name, and its value; sorted, so that a second look is the same."""
    for service in sorted(counters):
        for name in sorted(counters[service]):
            first, *rest = name.split(":", parts)
            if first == begin and len(rest) == parts:
                yield service, tuple(rest), counters[service][name]


def _state(health: Health) -> Iterator["Metric"]:
    breakers, cooldowns = [], []
    for one in health.services:
        service, found = str(one["service"]), one["breaker"]
        state = found.get("state") if isinstance(found, Mapping) else None
        breakers += [((service, name), float(name == state)) for name in BREAKER_STATES]
        until = one["cooldown_until"]
        if isinstance(until, (int, float)):
            cooldowns.append(((service,), float(until)))
    yield _gauge("selfheal_breaker_state", "1 for the state that the breaker is in.", ("service", "state"), breakers)
    yield _gauge(
        "selfheal_cooldown_end_timestamp_seconds", "Until when a service is not healed again.", ("service",), cooldowns
    )
    pauses = [((service or "*",), until) for service, until in sorted(health.pauses.items())]
    yield _gauge(
        "selfheal_pause_end_timestamp_seconds",
        "When a pause in force ends, +Inf for one without end; service * is the pause of all.",
        ("service",),
        pauses,
    )
    running = [(labels, float(count)) for labels, count in sorted(health.running.items())]
    yield _gauge(
        "selfheal_unfinished_rollouts",
        "Rollouts and actions that are not finished.",
        ("service", "kind", "state"),
        running,
    )


def _controller(health: Health) -> Iterator["Metric"]:
    yield _gauge("selfheal_chain_entries", "The number of the newest entry.", (), [((), float(health.entries))])
    yield _gauge(
        "selfheal_clock_drift_seconds", "By how much the controller's clock is wrong.", (), [((), health.drift)]
    )
    seen = [] if health.watchdog_at is None else [((), health.watchdog_at)]
    yield _gauge("selfheal_watchdog_seen_timestamp_seconds", "When the Watchdog alert was seen last.", (), seen)


def _gauge(name: str, told: str, labels: Sequence[str], rows: Iterable[Tuple[Sequence[str], float]]) -> "Metric":
    family = GaugeMetricFamily(name, told, labels=labels)
    for values, value in rows:
        family.add_metric(list(values), value)
    return family


def ends(pauses: Iterable[Mapping[str, object]]) -> Dict[str, float]:
    """By service, when its pause ends."""
    found: Dict[str, float] = {}
    for pause in pauses:
        until = pause["until"]
        found[str(pause["service"])] = float(until) if isinstance(until, (int, float)) else math.inf
    return found
