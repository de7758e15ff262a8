# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Event filter: notifications of Alertmanager and Grafana become flat events that rules and playbooks may handle.

ansible-rulebook writes an event to extra variables that ansible-core renders as trusted templates, and takes
`meta.hosts` for the play's limit. So every event of this filter is built anew, of a fixed set of keys: nothing of what
somebody sent comes through that was not asked for, checked and neutralised.
"""

from __future__ import annotations

import hashlib
import logging
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

DOCUMENTATION = r"""
---
short_description: Turn notifications of Alertmanager and Grafana into events that are safe to act on
description:
  - Splits a notification of Alertmanager (payload version 4) or Grafana (version 1) into one event per alert, or per
    service. It works behind C(eda.builtin.webhook), event streams and Kafka, and behind this collection's sources.
  - Every text is made one printable line in which no template marker is left. Without that, ansible-core renders what
    a sender wrote into a label, on the machine that runs ansible-rulebook.
  - Only labels that are listed come through. The service has to be the plain name of an inventory group, since it
    becomes the variable C(delivery_service). C(meta.hosts), which ansible-rulebook would use as the limit of a play,
    is removed with all else in C(meta) that is not known.
  - C(meta.uuid) is the same for every copy of the same news, so that ansible-rulebook drops repeats when it runs with
    C(--persistence-id).
  - It also understands a call, such as C({"type":"selfheal.call","name":"ci","service":"shop","id":"1"}), and an error
    code from a log pipeline, such as C({"type":"selfheal.error_code","error_code":"SHOP-CART-001","service":"shop"})
    with the fields of a log line as the page on error codes has them. See O(calls).
  - What cannot be taken becomes an event of kind V(refused) with a C(reason). The filter never raises. Refusals
    of one sort are one event with their number in C(count).
  - The keys of an event are C(kind) (V(alert), V(error_code), V(call), V(watchdog), V(refused)), C(status) (V(firing),
    V(resolved)), C(service), C(environment), C(name), C(id), C(at), C(until), C(severity), C(release), C(labels),
    C(count), C(others), C(trigger), C(alarming), C(ack), C(reason), C(truncated), C(out_of_order) and C(meta). All of
    them are there in every event.
  - ansible-rulebook renders no variables in the options of a filter.
options:
  service_label:
    description:
      - The label with the service's name, or several, of which the first one that an alert has counts.
    type: list
    elements: str
    default: [service]
  services:
    description:
      - The services that may be named, as a list, or as a dictionary of values of the label and the groups they stand
        for. What is not in it is refused.
      - Without it each value that is a plain name of a group is taken for one.
    type: raw
  environment_label:
    description: The label with the environment's name, which an alert need not have.
    type: str
    default: environment
  labels:
    description: The labels that come through.
    type: list
    elements: str
    default:
      - alertname
      - service
      - environment
      - severity
      - version
      - release
      - error_code
      - response
      - attributable
      - owner
      - slo
  code_label:
    description: An alert with an error code of a catalogue in this label is of kind V(error_code).
    type: str
    default: error_code
  watchdog:
    description: The name of the alert that always fires. Its events are of kind V(watchdog), and need no service.
    type: str
    default: Watchdog
  one_event_per:
    description:
      - With V(alert), each alert is an event.
      - With V(service), the alerts of a payload that say the same of a service are one event, about the one that began
        first, with the number of them in C(count), such as one alert of many instances. Those of another name, release,
        environment or status remain events of their own, since it is decided by name and release what is done.
    type: str
    choices: [alert, service]
    default: alert
  calls:
    description:
      - Whether calls and error codes of a log pipeline are taken, which anybody can make up who can post.
      - With V(verified), when the source says in C(meta.selfheal.verified) how it made sure of the sender. A call has
        to be signed, or come with a client certificate, and the name that it gives has to be that of the key. Use this
        only behind sources that keep what was sent apart under C(payload), as those of this collection do.
      - With V(accept), always. Only where the source lets nobody else post, such as an event stream with a signature.
    type: str
    choices: [refuse, verified, accept]
    default: verified
  max_alerts:
    description: How many alerts of one payload are read. More are refused, not dropped silently.
    type: int
    default: 2000
"""

EXAMPLES = r"""
- name: Roll back on alerts
  hosts: localhost
  sources:
    - eda.builtin.webhook:
        host: 127.0.0.1
        port: 5050
        token: "{{ alert_token }}"
      filters:
        - selfheal.delivery.alerts:
            service_label: [service, app]
            services: [shop, bank]
  rules:
    - name: An alert fires
      condition: event.kind == "alert" and event.status == "firing"
      action:
        run_playbook:
          name: selfheal.delivery.respond
          extra_vars:
            respond_event: "{{ event }}"

- name: Values of a label that are no names of groups
  hosts: localhost
  sources:
    - ansible.eda.kafka:
        host: kafka.example.org
        port: 9092
        topic: alerts
      filters:
        - selfheal.delivery.alerts:
            service_label: app.kubernetes.io/name
            services:
              web-shop: shop
              core-bank: bank
            one_event_per: service
  rules:
    - name: What could not be taken
      condition: event.kind == "refused"
      action:
        print_event:
          pretty: true
"""

# --- kinds of events
ALERT = "alert"
ERROR_CODE = "error_code"
CALL = "call"
WATCHDOG = "watchdog"
REFUSED = "refused"

FIRING = "firing"
RESOLVED = "resolved"

# --- most that is read of anything, in characters or pieces: the time for a payload is linear in its size
LONGEST_TEXT = 1000
LONGEST_NAME = 200
LONGEST_REASON = 500
QUOTED = 80  # of what a sender wrote, in a reason
MOST_LABELS = 256
MOST_ACKS = 5000
MOST_OTHERS = 20
MOST_DIGESTED = 10_000
CODE_WINDOW = 300  # seconds: error codes of a log pipeline within one of these are one incident

NAMESPACE = uuid.UUID("0d5a1a0e-6c6c-5f0b-9e43-7b1f4a3c2d58")
PRODUCERS = {"4": "Alertmanager", "1": "Grafana"}  # by the payload's version
# What Grafana says about its data source, with the labels of the rule: it is no news of the service.
ABOUT_ITSELF = ("DatasourceNoData", "DatasourceError")
DEFAULT_LABELS = (
    *("alertname", "service", "environment", "severity", "version", "release"),
    *("error_code", "response", "attributable", "owner", "slo"),
)
# names that select more than a group of the user's own
RESERVED = ("all", "ungrouped", "localhost")
VERIFIED = ("bearer", "basic", "mtls", "standard-webhooks")
SIGNED = ("mtls", "standard-webhooks")  # say who it is, too

_GROUP = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,32}")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_CODE = re.compile(r"[A-Z][A-Z0-9]{1,15}-[A-Z][A-Z0-9]{1,31}-[0-9]{3}")
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,12}))?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)
# A brace at the end would be half a marker, whose other half may follow where two texts are joined.
_MARKER = re.compile(r"\{(?=[{%#]|\Z)")
_OVERRIDE = re.compile(r"\A#(?! )|#(?=jinja2:)", re.IGNORECASE)

_LOG = logging.getLogger("selfheal.delivery.alerts")


class Refused(Exception):
    """What cannot be taken, and why. Refusals of the same `sort` are counted together."""

    def __init__(self, sort: str, reason: str) -> None:
        super().__init__(reason)
        self.sort = sort
        self.reason = reason


@dataclass(frozen=True)
class Options:
    """The filter's options, checked."""

    service_labels: Tuple[str, ...]
    services: Optional[Mapping[str, str]]  # value of the label -> group; None: any plain group
    environment_label: str
    labels: Tuple[str, ...]
    code_label: str
    watchdog: str
    per_service: bool
    calls: str
    max_alerts: int


@dataclass(frozen=True)
class Said:
    """What the source says about what it took."""

    verified: str = ""
    source: str = ""
    key: str = ""
    ack: Tuple[str, ...] = ()  # the items that wait for an acknowledgement
    emission: str = ""  # the same again only where the source repeats itself after a crash
    alarming: Optional[int] = None


Event = Dict[str, Any]


def main(event: Any, **options: Any) -> List[Event]:
    """The events that `event` stands for; each is a dictionary with all the keys that the documentation names.

    It never raises: ansible-rulebook would end the source and with it every other service's alerts.
    """
    said, body = Said(), event
    try:
        body, said = unwrapped(event)
        found = read(body, said, parsed(options))
    except Refused as refused:
        found = [refusal(refused, body)]
    except Exception as error:  # the last resort for what nobody thought of: it is told, and nothing is done
        found = [refusal(Refused("internal", f"this filter failed with {type(error).__name__}; please report it"))]
    alarming = len({one["service"] for one in found if one["kind"] in (ALERT, ERROR_CODE) and one["status"] == FIRING})
    claimed = {item for one in found for item in one["ack"]}
    found[-1]["ack"] += [item for item in said.ack if item not in claimed]  # none is waited for in vain
    for one in found:
        one["alarming"] = alarming if said.alarming is None else said.alarming
        if said.emission:
            one["meta"]["uuid"] = _uuid(one["meta"]["uuid"], said.emission)
        one["meta"]["selfheal"] = {"verified": said.verified, "source": said.source, "key": said.key}
        if one["kind"] == REFUSED:
            _LOG.warning("refused: %s (%d)", one["reason"], one["count"])
    return found


# --- texts


def neutral(text: str, most: int = LONGEST_TEXT) -> str:
    """One printable line of at most `most` characters in which no template begins, also not joined to other such ones.

    What is neutral already stays as it is.
    """
    line = "".join(char if char.isprintable() else " " for char in text[:most])
    return _MARKER.sub("(", _OVERRIDE.sub("# ", line)[:most])


def quoted(value: Any) -> str:
    """What somebody sent, short and neutral, for a reason."""
    return f"'{neutral(value, QUOTED)}'" if isinstance(value, str) else _sort_of(value)


def _sort_of(value: Any) -> str:
    sorts = {str: "a text", dict: "an object", list: "a list", bool: "a truth value", type(None): "null"}
    return sorts.get(type(value), "a number" if isinstance(value, (int, float)) else "of another type")


def plain(pattern: re.Pattern[str], value: Any) -> str:
    """The value if it is a text that matches, else nothing."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def epoch(value: Any) -> Optional[float]:
    """Epoch seconds of an RFC 3339 time; None for the zero time, and for what is none."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(number) for number in match.groups()[:6])
    fraction, sign, hours, minutes = match.groups()[6:]
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    seconds = moment.timestamp() - offset
    return seconds + float(f"0.{fraction or 0}") if seconds > 0 else None


def digest(value: Any) -> str:
    """Hexadecimal digits of whatever was sent, the same for the same; only so much of it is read."""
    done, waiting = hashlib.sha256(), [value]
    for _step in range(MOST_DIGESTED):
        if not waiting:
            break
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(part for pair in islice(one.items(), MOST_DIGESTED) for part in pair)
        elif isinstance(one, list):
            waiting.extend(one[:MOST_DIGESTED])
        text = one[:LONGEST_TEXT] if isinstance(one, str) else _scalar(one)
        done.update(f"{type(one).__name__}:{text}\n".encode("utf-8", "surrogatepass"))
    return done.hexdigest()[:32]


def _scalar(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return str(len(value))
    if isinstance(value, int):  # the decimal digits of a huge one would take long, or raise
        return f"{value.bit_length()}:{value & 0xFFFFFFFFFFFFFFFF:x}"
    return repr(value) if isinstance(value, float) else ""


# --- options


def parsed(options: Mapping[str, Any]) -> Options:
    """The options, checked; raises Refused, since an error here must not end the source either."""
    known = {"service_label", "services", "environment_label", "labels", "code_label", "watchdog"}
    known |= {"one_event_per", "calls", "max_alerts"}
    for name in options:
        if name not in known:
            raise _wrong("options", f"there is none called {quoted(name)}; there are {', '.join(sorted(known))}")
    label, labels = options.get("service_label"), options.get("labels")
    return Options(
        service_labels=("service",) if label is None else _texts("service_label", label),
        services=_services(options.get("services")),
        environment_label=_text(options, "environment_label", "environment"),
        labels=DEFAULT_LABELS if labels is None else _texts("labels", labels),
        code_label=_text(options, "code_label", "error_code"),
        watchdog=_text(options, "watchdog", "Watchdog"),
        per_service=_choice(options, "one_event_per", (ALERT, "service")) == "service",
        calls=_choice(options, "calls", ("verified", "refuse", "accept")),
        max_alerts=_count(options, "max_alerts", 2000),
    )


def _wrong(name: str, why: str) -> Refused:
    return Refused(f"option {name}", f"option {name} of the filter selfheal.delivery.alerts: {why}")


def _text(options: Mapping[str, Any], name: str, default: str) -> str:
    value = options.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, "it must be a text")
    return default if value is None else _texts(name, value)[0]


def _texts(name: str, value: Any) -> Tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(one, str) and one for one in texts):
        raise _wrong(name, "it must be a text or a list of texts, none of them empty")
    for text in texts:
        if "{{" in text:
            raise _wrong(name, "it has a template, and ansible-rulebook renders none here; write the value itself")
        if neutral(text, LONGEST_NAME) != text:
            raise _wrong(name, f"{quoted(text)} is no name")
    return tuple(texts)


def _choice(options: Mapping[str, Any], name: str, choices: Tuple[str, ...]) -> str:
    value = options.get(name)
    if value is None:
        return choices[0]
    if value not in choices:
        raise _wrong(name, f"it must be one of {', '.join(choices)}")
    return str(value)


def _count(options: Mapping[str, Any], name: str, default: int) -> int:
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
        raise _wrong(name, "it must be a whole number from 1 to 100000")
    return value


def _services(value: Any) -> Optional[Mapping[str, str]]:
    if value is None:
        return None
    groups: Dict[str, str]
    if isinstance(value, dict) and value:
        groups = {label: group for label, group in value.items() if isinstance(label, str)}
        if len(groups) != len(value):
            raise _wrong("services", "each value of the label must be a text; put quotes around it")
    else:
        groups = {name: name for name in _texts("services", value)}
    for group in groups.values():
        if not _is_group(group):
            raise _wrong("services", f"{quoted(group)} is no plain name of an inventory group")
    return groups


# --- what a source hands over


def unwrapped(event: Any) -> Tuple[Any, Said]:
    """The body that somebody posted, and what the source says of it.

    A webhook has the body under `payload`, Kafka under `body`; a body can also be the event itself. Only `payload` is
    kept apart from what the source says by all who use it: what a body says of itself proves nothing.
    """
    if not isinstance(event, dict):
        raise Refused("shape", f"the event is {_sort_of(event)}, not an object")
    if any(key in event for key in ("alerts", "type", "error_code")):
        return event, Said()
    if "payload" in event:
        return event["payload"], told(event.get("meta"))
    return event.get("body", event), Said()


def told(meta: Any) -> Said:
    """What a source of this collection says in `meta.selfheal`; nothing of another type is believed."""
    said = meta.get("selfheal") if isinstance(meta, dict) else None
    if not isinstance(said, dict):
        return Said()
    verified, ack, alarming = said.get("verified"), said.get("ack"), said.get("alarming")
    whole = isinstance(alarming, int) and not isinstance(alarming, bool) and 0 <= alarming < 10**9
    return Said(
        verified=verified if isinstance(verified, str) and verified in VERIFIED else "",
        source=plain(_WORD, said.get("source")),
        key=neutral(str(said.get("key")), LONGEST_NAME) if isinstance(said.get("key"), str) else "",
        ack=tuple(one for one in ack[:MOST_ACKS] if plain(_UUID, one)) if isinstance(ack, list) else (),
        emission=plain(_WORD, said.get("emission")),
        alarming=alarming if whole else None,
    )


def read(body: Any, said: Said, options: Options) -> List[Event]:
    """The events of a body; raises Refused when nothing of it can be taken."""
    if not isinstance(body, dict):
        raise Refused("body", f"what was posted is {_sort_of(body)}, not a JSON object")
    if "alerts" in body:
        return _alerts(body, frozenset(said.ack), options)
    # a line of a log as the page on error codes has it needs no type
    sort = body.get("type", "selfheal.error_code" if "error_code" in body else None)
    if sort in ("selfheal.call", "selfheal.error_code"):
        trusted = options.calls == "accept" or (options.calls == "verified" and said.verified)
        if not trusted:
            raise Refused("unverified", f"a {sort} of an unproven sender; see the option calls")
        return [called(body, said, options) if sort == "selfheal.call" else logged(body, options)]
    if sort is not None:
        raise Refused("type", f"type {quoted(sort)}; selfheal.call and selfheal.error_code are known")
    raise Refused("producer", "this is no notification of Alertmanager or Grafana: it has no alerts")


# --- alerts


def _alerts(body: Mapping[str, Any], items: frozenset[str], options: Options) -> List[Event]:
    """An event has the items that its own alerts carry: none is done before somebody looked at it."""
    alerts, truncated = _checked(body)
    found: Dict[str, Event] = {}
    refused: Dict[str, Event] = {}
    for alert in alerts[: options.max_alerts]:
        try:
            new = alerted(alert, options, truncated)
            one = found.setdefault(f"{new['id']}|{new['status']}", new)
        except Refused as why:
            one = refused.setdefault(why.sort, refusal(why, alert, 0))
            one["count"] += 1
        item = alert.get("ack") if isinstance(alert, dict) else None
        if isinstance(item, str) and item in items:
            one["ack"].append(item)
    left = len(alerts) - options.max_alerts
    if left > 0:
        much = Refused("too many", f"{len(alerts)} alerts in one payload, of which {options.max_alerts} were read")
        refused[much.sort] = refusal(much, body, left)
    return [*_gathered(list(found.values()), options), *refused.values()]


def _checked(body: Mapping[str, Any]) -> Tuple[List[Any], int]:
    """The alerts of a payload that an Alertmanager or a Grafana makes, and how many more it left out."""
    version, alerts, left_out = body.get("version"), body.get("alerts"), body.get("truncatedAlerts", 0)
    if not isinstance(version, str) or version not in PRODUCERS:
        known = " and ".join(f"{one} ({producer})" for one, producer in PRODUCERS.items())
        raise Refused("version", f"payload version {quoted(version)}; {known} are known")
    if version == "1" and "orgId" not in body:
        raise Refused("producer", "payload version 1 without the orgId that Grafana sends")
    if not isinstance(alerts, list):
        raise Refused("alerts", f"alerts is {_sort_of(alerts)}, not a list")
    if not alerts:
        raise Refused("alerts", "the notification has no alert in it")
    whole = isinstance(left_out, int) and not isinstance(left_out, bool) and 0 <= left_out < 10**9
    return alerts, left_out if whole else 0


def alerted(alert: Any, options: Options, truncated: int) -> Event:
    """The event of one alert; raises Refused."""
    if not isinstance(alert, dict):
        raise Refused("alert", f"an alert is {_sort_of(alert)}, not an object")
    labels = _labels(alert, options)
    status, begun, ended = alert.get("status"), epoch(alert.get("startsAt")), epoch(alert.get("endsAt"))
    name = labels.get("alertname", "")
    if not neutral(name).strip():
        raise Refused("label alertname", "label alertname is missing")
    if status not in (FIRING, RESOLVED):
        raise Refused("status", f"alert {quoted(name)}: status {quoted(status)} is neither firing nor resolved")
    if begun is None:
        raise Refused("startsAt", f"alert {quoted(name)}: startsAt {quoted(alert.get('startsAt'))} is no time")
    if name in ABOUT_ITSELF:
        raise Refused(name, f"{name}: Grafana could not tell how the service is, so nothing is done")
    own = digest([[*pair] for pair in sorted(labels.items())])[:16]
    fingerprint = plain(_FINGERPRINT, alert.get("fingerprint")) or own
    ident = f"{fingerprint}-{int(begun)}"
    watchdog = name == options.watchdog
    code = "" if watchdog else plain(_CODE, labels.get(options.code_label))
    event = _event(WATCHDOG if watchdog else ERROR_CODE if code else ALERT, code or name, ident, begun, status)
    if not watchdog:
        event["service"] = _service(labels, options)
        event["environment"] = _environment(labels.get(options.environment_label, ""))
    event["until"] = ended if status == RESOLVED else None
    event["out_of_order"] = status == RESOLVED and ended is not None and ended < begun
    event["truncated"] = truncated
    event["labels"] = {key: neutral(labels[key]) for key in options.labels if key in labels}
    event["severity"] = plain(_WORD, event["labels"].get("severity"))
    event["release"] = plain(_RELEASE, event["labels"].get("release") or event["labels"].get("version"))
    # that the watchdog fires is news each time: it must not be dropped as a repeat
    event["meta"]["uuid"] = _uuid(WATCHDOG, uuid.uuid4()) if watchdog else _uuid(fingerprint, int(begun), status)
    return event


def _labels(alert: Mapping[str, Any], options: Options) -> Dict[str, str]:
    """The labels that anything here looks at, as they were sent."""
    labels = alert.get("labels")
    if not isinstance(labels, dict):
        raise Refused("labels", f"labels is {_sort_of(labels)}, not an object")
    if len(labels) > MOST_LABELS:
        raise Refused("labels", f"an alert has {len(labels)} labels; more than {MOST_LABELS} are not read")
    for key, value in labels.items():
        if not isinstance(value, str):
            raise Refused("labels", f"label {quoted(key)} is {_sort_of(value)}, not a text")
    return labels


def _is_group(name: Any) -> bool:
    return bool(plain(_GROUP, name)) and name.lower() not in RESERVED


def _service(labels: Mapping[str, Any], options: Options) -> str:
    """The group that the alert is about."""
    label = next((label for label in options.service_labels if labels.get(label)), None)
    if label is None:
        raise Refused("label service", f"no label {' or '.join(options.service_labels)} says which service it is about")
    return _group(labels[label], f"label {label}", options)


def _group(value: Any, where: str, options: Options) -> str:
    if options.services is not None:
        if not isinstance(value, str) or value not in options.services:
            raise Refused("unknown service", f"{where}: {quoted(value)} is none of the services that are listed")
        return options.services[value]
    if not _is_group(value):
        raise Refused("service", f"{where}: {quoted(value)} is no plain name of an inventory group")
    return str(value)


def _environment(value: Any) -> str:
    if value and not plain(_ENVIRONMENT, value):
        raise Refused("environment", f"environment {quoted(value)} is no plain name")
    return str(value or "")


def _gathered(events: List[Event], options: Options) -> List[Event]:
    """The events, each with the names of the others about its service; or one of those that say the same."""
    names: Dict[Tuple[str, ...], Set[str]] = {}
    for event in events:
        names.setdefault(_about(event), set()).add(event["name"])
    shown = {about: sorted(some)[: MOST_OTHERS + 1] for about, some in names.items()}
    for event in events:
        event["others"] = [name for name in shown[_about(event)] if name != event["name"]][:MOST_OTHERS]
    if not options.per_service:
        return events
    groups: Dict[Tuple[str, ...], List[Event]] = {}
    for event in events:
        groups.setdefault((*_about(event), event["kind"], event["name"], event["release"]), []).append(event)
    return sorted((_one(members) for members in groups.values()), key=lambda event: str(event["status"]))


def _about(event: Event) -> Tuple[str, str, str]:
    return event["service"], event["environment"], event["status"]


def _one(members: List[Event]) -> Event:
    """The event about what began first; it is news whenever it is about others than before."""
    first = min(members, key=lambda event: (event["at"], event["id"]))
    first["count"] = len(members)
    first["ack"] = [item for event in members for item in event["ack"]]
    if len(members) > 1 and first["kind"] != WATCHDOG:
        first["meta"]["uuid"] = _uuid(*sorted(event["meta"]["uuid"] for event in members))
    return first


# --- calls, and error codes of logs


def called(body: Mapping[str, Any], said: Said, options: Options) -> Event:
    """A call of another system or of a person: {"type", "name", "service", "environment", "id", "reason"}.

    Policies list who may call by name, so it has to be the name of the key, or certificate, that proved it.
    """
    name, ident, reason = body.get("name"), plain(_ID, body.get("id")), body.get("reason", "")
    if not isinstance(name, str) or not neutral(name).strip():
        raise Refused("call name", "a call does not say who calls, in name")
    if options.calls == "verified" and (said.verified not in SIGNED or name != said.key):
        proved = f"{said.verified} proved {quoted(said.key)}"
        raise Refused("call name", f"{quoted(name)} calls, but {proved}; sign it with a key of that name")
    if not ident:
        raise Refused("call id", f"id {quoted(body.get('id'))} of a call; it must be letters, digits and . _ : -")
    if not isinstance(reason, str):
        raise Refused("call reason", f"reason of a call is {_sort_of(reason)}, not a text")
    event = _event(CALL, neutral(name, LONGEST_NAME), ident, epoch(body.get("timestamp")), FIRING)
    event["service"] = _group(body.get("service"), "service of a call", options)
    event["environment"] = _environment(body.get("environment"))
    event["reason"] = neutral(reason, LONGEST_REASON)
    event["release"] = plain(_RELEASE, body.get("release") or body.get("version"))
    event["meta"]["uuid"] = _uuid(CALL, event["name"], ident, event["service"], event["environment"])
    return event


def logged(body: Mapping[str, Any], options: Options) -> Event:
    """An error code as an application logs it: {"type", "error_code", "service", "environment", "version", …}."""
    code, at = plain(_CODE, body.get("error_code")), epoch(body.get("timestamp"))
    if not code:
        raise Refused("error code", f"error_code {quoted(body.get('error_code'))} is no code, such as SHOP-CART-001")
    if at is None:
        raise Refused("timestamp", f"{code}: timestamp {quoted(body.get('timestamp'))} is no ISO 8601 time with offset")
    service = _group(body.get("service"), "service of an error code", options)
    environment = _environment(body.get("environment"))
    release = plain(_RELEASE, body.get("version"))
    begun = int(at) - int(at) % CODE_WINDOW
    ident = f"{digest([code, service, environment, release])[:16]}-{begun}"
    event = _event(ERROR_CODE, code, ident, at, FIRING)
    event.update(service=service, environment=environment, release=release)
    event["severity"] = plain(_WORD, body.get("severity"))
    sent = {key: body[key] for key in options.labels if isinstance(body.get(key), str)}
    event["labels"] = {key: neutral(value) for key, value in sent.items()}
    event["meta"]["uuid"] = _uuid(ERROR_CODE, ident)
    return event


# --- events


def _event(kind: str, name: str, ident: str, at: Optional[float], status: str) -> Event:
    """An event with every key; what is empty is for the caller to fill."""
    name = neutral(name, LONGEST_NAME)
    event: Event = {"kind": kind, "status": status, "service": "", "environment": "", "name": name, "id": ident}
    event.update(at=at, until=None, severity="", release="", labels={}, count=1, others=[], alarming=0, ack=[])
    event.update(reason="", truncated=0, out_of_order=False, trigger={}, meta={"uuid": ""})
    if kind in (ALERT, ERROR_CODE, CALL):
        event["trigger"] = {"kind": kind, "name": name, "id": ident, "at": at, "active": status == FIRING}
    return event


def refusal(refused: Refused, what: Any = None, count: int = 1) -> Event:
    """The event that says why something was not taken; the same for the same refusal of the same thing."""
    ident = digest(what)
    event = _event(REFUSED, "", ident, None, "")
    event.update(reason=neutral(refused.reason, LONGEST_REASON), count=count)
    event["meta"]["uuid"] = _uuid(REFUSED, refused.sort, ident)
    return event


def _uuid(*parts: object) -> str:
    return str(uuid.uuid5(NAMESPACE, "|".join(str(part) for part in parts)))
