# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is an alert really firing? Who sent it is not asked: the inventory names an Alertmanager, or a Prometheus.

The same answer tells how many services alarm at this moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Container, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlencode

from .._errors import OptionError, SourceError, nearest
from .._judge.part import shown as told
from .._sense.options import SourceOptions, parse_source
from .event import Event
from .fetch import fetch

ALERTMANAGER, PROMETHEUS = "alertmanager", "prometheus"
TYPES = (ALERTMANAGER, PROMETHEUS)
OWN_KEYS = ("service_label", "environment_label", "services", "matchers")
NOT_HERE = ("urls", "place_label", "up", "window")  # of a source of metrics, and nothing to ask for alerts
ENVIRONMENT = "SELFHEAL_ALERTMANAGER_"
SAME_INSTANT = 2.0  # seconds by which two tellings of one beginning may differ
# since when each firing alert has been active; the label alertstate would make two series of each
_FIRING = 'ALERTS_FOR_STATE and ignoring(alertstate) ALERTS{alertstate="firing"}'


@dataclass(frozen=True)
class Alerts:
    """Where alerts are asked for: the inventory's `delivery_alerts`.

    `services` are the groups that values of the service's label stand for, where they are not the groups' own names.
    """

    type: str
    source: SourceOptions
    service_label: str = "service"
    environment_label: str = "environment"
    matchers: Tuple[str, ...] = ()
    services: Mapping[str, str] = field(default_factory=dict)

    def group(self, labels: Mapping[str, str]) -> str:
        """The inventory group that an alert with these labels is about, if it is one."""
        value = labels.get(self.service_label, "")
        return self.services.get(value, value)


@dataclass(frozen=True)
class Firing:
    """One alert that fires. `since` is epoch seconds, None where it cannot be told."""

    labels: Mapping[str, str]
    since: Optional[float] = None
    fingerprint: str = ""


@dataclass(frozen=True)
class Answer:
    """`firing` is None when nobody could tell; `asked` is False when the inventory names nobody to ask.

    `since` is when the alert began by its source, in epoch seconds; `incident` the identity by which the filter tells
    it; `alarming` how many services have alerts that fire; `names` which alerts about this one do.
    """

    asked: bool
    firing: Optional[bool] = None
    said: str = ""
    since: Optional[float] = None
    incident: str = ""
    alarming: int = 0
    names: Tuple[str, ...] = ()

    def as_dict(self) -> Dict[str, object]:
        return {**vars(self), "names": list(self.names)}


def parse_alerts(raw: Mapping[str, object], environment: Mapping[str, str]) -> Optional[Alerts]:
    """The inventory's `delivery_alerts`, or None when there is none; raises OptionError with the nearest right word."""
    given = {str(key): value for key, value in raw.items() if value is not None}
    if not given:
        return None
    kind = given.pop("type", None)
    if kind not in TYPES:
        wrong = f"has the unknown type {told(kind)}{nearest(str(kind), TYPES)}" if kind else "has no type"
        raise OptionError(f"delivery_alerts {wrong}", mend=f"Use {' or '.join(TYPES)}")
    own = {key: given.pop(key) for key in OWN_KEYS if key in given}
    for key in NOT_HERE:
        if key in given:
            raise OptionError(f"delivery_alerts takes no {key}", mend=f"Leave {key} out")
    try:
        source = parse_source({**given, "type": PROMETHEUS}, _environment(str(kind), environment))
    except OptionError as error:
        what = error.what.replace("a prometheus source", "it").replace("source", "delivery_alerts")
        raise OptionError(f"delivery_alerts: {what}", mend=error.mend.replace("source.", "delivery_alerts.")) from None
    labels = {key: _label(key, own[key]) for key in ("service_label", "environment_label") if key in own}
    matchers = _matchers(str(kind), own.get("matchers", []))
    return Alerts(str(kind), source, matchers=matchers, services=_groups(own.get("services", {})), **labels)


def _environment(kind: str, environment: Mapping[str, str]) -> Mapping[str, str]:
    """An Alertmanager has variables of its own, so that no other server's credentials are sent to it."""
    if kind == PROMETHEUS:
        return environment
    mine = {name: value for name, value in environment.items() if name.startswith(ENVIRONMENT)}
    return {name.replace("ALERTMANAGER", "PROMETHEUS", 1): value for name, value in mine.items()}


def _label(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise OptionError(f"delivery_alerts.{key} is {told(value)}", mend="It is the name of a label")
    return value


def _groups(value: object) -> Dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(one, str) and one for pair in value.items() for one in pair
    ):
        raise OptionError(
            "delivery_alerts.services is no mapping of labels to groups", mend="Write it like {web-shop: shop}"
        )
    return {str(label): str(group) for label, group in value.items()}


def _matchers(kind: str, value: object) -> Tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise OptionError(
            "delivery_alerts.matchers is no list of matchers", mend='Write them like severity=~"critical|page"'
        )
    if value and kind != ALERTMANAGER:
        raise OptionError(f"delivery_alerts.matchers is for the type {ALERTMANAGER}", mend="Leave matchers out")
    return tuple(str(one) for one in value)


@dataclass(frozen=True)
class Asking:
    """What is asked of whom. `known` are the inventory's services; `environment` is theirs, whatever the event says."""

    alerts: Alerts
    event: Event
    known: Container[str]
    environment: str


def asked(alerts: Optional[Alerts], event: Event, known: Container[str], since: float, environment: str = "") -> Answer:
    """What the alert's source says of it. `known` are the inventory's services, in `environment`; of these count whose
    alarm is not older than `since` (epoch seconds). Never raises because a source is down."""
    if alerts is None:
        return Answer(False, said="delivery_alerts names no server to ask, so that the gates alone confirm")
    if not event.by_alert:
        return Answer(
            False, said=f"a {event.kind.replace('_', ' ')} has no alert to ask for, so that the gates confirm"
        )
    try:
        firing = _alertmanager(alerts) if alerts.type == ALERTMANAGER else _prometheus(alerts)
    except SourceError as error:
        return Answer(True, said=error.what)
    return _answer(Asking(alerts, event, known, environment), firing, since)


def _answer(asking: Asking, firing: Sequence[Firing], since: float) -> Answer:
    alerts, event = asking.alerts, asking.event
    alarming = _services(asking, firing, since)
    names = tuple(sorted({one.labels.get("alertname", "") for one in firing if _is_about(asking, one)}))
    here = [one for one in firing if _is_meant(asking, one)]
    meant = sorted((one for one in here if not _is_later(one, event)), key=lambda one: one.since or 0.0)
    if meant:
        first = meant[0]
        incident = f"{first.fingerprint}-{int(first.since)}" if first.fingerprint and first.since else ""
        said = f"{alerts.type} says that {event.alert} fires"
        return Answer(True, True, said, first.since, incident, alarming, names)
    other = any(one.fingerprint and one.fingerprint == event.fingerprint for one in firing)
    why = "does not fire, or is silenced or inhibited"
    why = "began anew since" if here else "is about something else than the event says" if other else why
    return Answer(True, False, f"{alerts.type} says that {event.alert} {why}", None, "", alarming, names)


def _is_meant(asking: Asking, one: Firing) -> bool:
    """The very alert where its source has fingerprints, else any one of this name; never one about another service."""
    event, labels = asking.event, one.labels
    code = labels.get("error_code", event.name) == event.name if event.alert != event.name else True
    if labels.get("alertname") != event.alert or not code:
        return False
    if not (one.fingerprint and event.fingerprint):
        return _is_about(asking, one)
    group = asking.alerts.group(labels)
    # a value that is no known service is one that the filter may have mapped to this one
    same = group == event.service or group not in asking.known
    return one.fingerprint == event.fingerprint and same and _is_here(asking, one)


def _is_about(asking: Asking, one: Firing) -> bool:
    event, group = asking.event, asking.alerts.group(one.labels)
    mapped = bool(group) and group not in asking.known and group == event.labels.get(asking.alerts.service_label)
    return (group == event.service or mapped) and _is_here(asking, one)


def _is_later(one: Firing, event: Event) -> bool:
    """Another incident of the same alert, that began after the one that was told."""
    if not (one.fingerprint and event.fingerprint) or one.since is None or event.at is None:
        return False
    return one.since > event.at + SAME_INSTANT


def _is_here(asking: Asking, one: Firing) -> bool:
    """An alert that names no environment may be about ours; one that names another is not."""
    return one.labels.get(asking.alerts.environment_label, "") in ("", asking.environment)


def _services(asking: Asking, firing: Sequence[Firing], since: float) -> int:
    late = [one for one in firing if _is_here(asking, one) and (one.since is None or one.since > since)]
    return len({group for group in (asking.alerts.group(one.labels) for one in late) if group in asking.known})


# --- the two kinds of server


def _alertmanager(alerts: Alerts) -> List[Firing]:
    """https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, getAlerts"""
    asked_for = [("active", "true"), ("silenced", "false"), ("inhibited", "false")]
    query = urlencode([*asked_for, *(("filter", matcher) for matcher in alerts.matchers)])
    base = _base(alerts.source, "/api/v2")
    answer = _json(fetch(f"{base}/alerts?{query}", alerts.source.access, alerts.source.timeout), base)
    if not isinstance(answer, list):
        raise SourceError(f"{_shown(base)} does not answer as an Alertmanager does")
    return [_of_alertmanager(one, base) for one in answer]


def _of_alertmanager(one: object, base: str) -> Firing:
    labels = one.get("labels") if isinstance(one, Mapping) else None
    if not isinstance(one, Mapping) or not isinstance(labels, Mapping):
        raise SourceError(f"{_shown(base)} answers alerts that cannot be read")
    return Firing(
        {str(key): str(value) for key, value in labels.items()},
        _moment(one.get("startsAt")),
        str(one.get("fingerprint") or ""),
    )


def _prometheus(alerts: Alerts) -> List[Firing]:
    base = _base(alerts.source, "/api/v1")
    query = urlencode({"query": _FIRING})
    answer = _json(fetch(f"{base}/query?{query}", alerts.source.access, alerts.source.timeout), base)
    data = answer.get("data") if isinstance(answer, Mapping) else None
    result = data.get("result") if isinstance(data, Mapping) else None
    if not isinstance(result, list):
        raise SourceError(f"{_shown(base)} does not answer as a Prometheus does")
    return [_of_prometheus(one, base) for one in result]


def _of_prometheus(one: object, base: str) -> Firing:
    try:
        labels, value = dict(one["metric"]), float(one["value"][1])  # type: ignore[index]
    except (KeyError, IndexError, TypeError, ValueError):
        raise SourceError(f"{_shown(base)} answers series that cannot be read") from None
    return Firing({str(key): str(text) for key, text in labels.items()}, value)


def _base(source: SourceOptions, api: str) -> str:
    url = source.urls[0].rstrip("/")
    return url if url.endswith(api) else f"{url}{api}"


def _json(body: bytes, base: str) -> object:
    try:
        answer: object = json.loads(body)
    except ValueError:
        raise SourceError(f"{_shown(base)} answers no JSON") from None
    return answer


def _shown(url: str) -> str:
    return url.rpartition("@")[2] if "@" in url else url


def _moment(text: object) -> Optional[float]:
    """Epoch seconds of an RFC 3339 time."""
    if not isinstance(text, str):
        return None
    whole, dot, rest = text.partition(".")
    digits = rest.rstrip("Zz") if dot else ""
    cut = next((index for index, char in enumerate(digits) if not char.isdigit()), len(digits))
    offset = digits[cut:] or ("+00:00" if text[-1:] in "Zz" else "")
    try:
        moment = datetime.fromisoformat(f"{whole.rstrip('Zz')}{offset}")
    except ValueError:
        return None
    return moment.timestamp() + float(f"0.{digits[:cut] or 0}") if moment.tzinfo is not None else None
