# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a catalogue to what watches it: Prometheus' alert rules, Alertmanager's route, a page of runbooks. Pure.

The same catalogue always gives the same text. What stands in it is data: it is quoted for PromQL, for the Go templates
that Prometheus expands in labels and annotations, for YAML, and for Markdown, and cannot break out of any of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .._errors import OptionError, nearest
from .._sense.selector import Selector, parse_selector
from .model import METRIC, Catalogue, Code

ALERT = "ErrorCodeRaised"
HEALER = "selfheal"
_BY = "service, environment, version"
_MADE = "# Made by selfheal.delivery.error_code_rules from the error-code catalogue. Do not edit.\n---\n"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|~])")
_UNITS = (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
Doc = Dict[str, object]


@dataclass(frozen=True)
class Paging:
    """Who is told: names of receivers that Alertmanager's own configuration has, `receiver` for all without their own.

    `webhook_url`, or `webhook_url_file` where the URL is a secret, is where the controller takes triggers; without it
    alerts only page.
    """

    receiver: str
    owners: Mapping[str, str] = field(default_factory=dict)
    webhook_url: str = ""
    webhook_url_file: str = ""


def rules(catalogue: Catalogue, metric: str = METRIC) -> str:
    """A rules file of `groups`."""
    return _MADE + as_yaml({"groups": groups(catalogue, metric)})


def groups(catalogue: Catalogue, metric: str = METRIC) -> List[Doc]:
    """One group per domain and one alert per code; also for deprecated codes, which still arrive."""
    counter = parse_selector(metric)
    domains = sorted({code.domain for code in catalogue.codes.values()})
    return [
        {
            "name": f"error-codes-{domain}",
            "rules": [_rule(code, counter) for code in _sorted(catalogue) if code.domain == domain],
        }
        for domain in domains
    ]


def _rule(code: Code, counter: Selector) -> Doc:
    alerting = code.alerting
    summary = f"{code.title} ({code.name})"
    return {
        "alert": ALERT,
        "expr": expression(code, counter),
        "for": duration(alerting.hold),
        "keep_firing_for": duration(alerting.keep_firing_for),
        "labels": {
            "error_code": code.name,
            "severity": code.severity,
            "owner": template_text(code.owner),
            "response": code.response[0],
            "attributable": "true" if code.attributable else "false",
        },
        "annotations": {"summary": template_text(summary), "runbook_url": template_text(code.runbook)},
    }


def expression(code: Code, counter: Selector) -> str:
    """At least `min_count` errors within the window; a counter that began within it counts from 0."""
    series = counter.narrowed("error_code", "=", code.name)
    window = duration(code.alerting.window)
    counted = f"({series} unless {series} offset {window}) or increase({series}[{window}])"
    return f"sum by ({_BY}) ({counted}) >= {code.alerting.min_count}"


def duration(seconds: float) -> str:
    """`5m`, `90s`, `1500ms`: in the largest unit that leaves a whole number, at least a millisecond unless it is 0."""
    left = max(1, round(seconds * 1000)) if seconds > 0 else 0
    unit, size = next((unit, size) for unit, size in _UNITS if left % size == 0)
    return f"{left // size}{unit}" if left else "0s"


def route(catalogue: Catalogue, paging: Paging) -> str:
    """What belongs under Alertmanager's `route.routes` and `receivers`; raises OptionError for an unknown owner."""
    owners = sorted({code.owner for code in catalogue.codes.values()})
    for owner in paging.owners:
        if owner not in owners:
            raise OptionError(
                f"no code is owned by {owner!r}{nearest(owner, owners)}", mend="Name the owners that the catalogue has"
            )
    named = [{"matchers": [f"owner={_matched(owner)}"], "receiver": paging.owners[owner]} for owner in paging.owners]
    pages: Doc = {
        "matchers": ['error_code!=""', f'alertname="{ALERT}"'],
        "receiver": paging.receiver,
        "group_by": ["error_code", "service", "environment"],
        "routes": sorted(named, key=lambda child: str(child["matchers"])),
    }
    healed = _healer(paging)
    if healed is None:
        return _MADE + as_yaml({"routes": [pages], "receivers": []})
    acted = "|".join(sorted({code.response[0] for code in catalogue.codes.values() if code.response[0] != "page"}))
    heals: Doc = {
        "matchers": [*_list(pages["matchers"]), f'response=~"{acted or "none"}"'],
        "receiver": HEALER,
        "group_by": ["error_code", "service", "environment"],
        "group_wait": "0s",
        "continue": True,
    }
    return _MADE + as_yaml({"routes": [heals, pages], "receivers": [healed]})


def _healer(paging: Paging) -> Optional[Doc]:
    """The receiver that hands alerts to the controller, or none where it has no address."""
    if paging.webhook_url and paging.webhook_url_file:
        raise OptionError("both webhook_url and webhook_url_file are given", mend="Give one of them")
    address = {"url": paging.webhook_url, "url_file": paging.webhook_url_file}
    given = {key: value for key, value in address.items() if value}
    return {"name": HEALER, "webhook_configs": [{**given, "send_resolved": True}]} if given else None


def runbooks(catalogue: Catalogue) -> str:
    """A Markdown page for those who are paged: never for end users, who read only the public messages."""
    lines = ["# Error codes", "", "For those who are paged. End users read only the public message.", ""]
    for code in _sorted(catalogue):
        lines += [f"## {code.name}: {markdown(code.title)}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {text} |" for name, text in _row(code) if text]
        lines += [""]
    return "\n".join(lines[:-1]) + "\n"


def _row(code: Code) -> List[Sequence[str]]:
    return [
        ("runbook", f"<{code.runbook}>"),
        ("owner", markdown(code.owner)),
        ("severity", code.severity),
        ("class", code.kind),
        ("a deploy may cause it", "yes" if code.attributable else "no"),
        ("a retry may help", "yes" if code.retryable else "no"),
        ("response", markdown(", then ".join(code.response))),
        ("flag", markdown(code.flag)),
        ("users read", markdown(code.public_message)),
        ("since", markdown(code.since)),
        ("deprecated since", markdown(code.deprecated)),
        ("use instead", markdown(code.replaced_by)),
    ]


def _sorted(catalogue: Catalogue) -> List[Code]:
    return sorted(catalogue.codes.values(), key=lambda code: code.name)


def template_text(text: str) -> str:
    """Text that a Go template prints as it stands."""
    return text.replace("{{", '{{"{{"}}')


def markdown(text: str) -> str:
    """Text that Markdown, and the HTML in it, shows as it stands, also within a table."""
    escaped = _MARKDOWN.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return escaped.replace("://", ":\\//")  # no link


def _matched(text: str) -> str:
    """A string of Alertmanager's matchers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _list(raw: object) -> List[object]:
    return list(raw) if isinstance(raw, list) else []


def as_yaml(doc: Mapping[str, object]) -> str:
    """YAML whose every text is in quotes, so that no reader of YAML takes it for anything else."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        style = "|" if "\n" in data else "'" if '"' in data else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def mapping(dumper: Any, data: Mapping[str, object]) -> Any:
        node = dumper.represent_mapping("tag:yaml.org,2002:map", data.items())
        for key, _value in node.value:
            key.style = None
        return node

    Dumper.add_representer(str, text)
    Dumper.add_representer(dict, mapping)
    # no folding: a long line is easier to compare than one that breaks elsewhere after each change
    return str(yaml.dump(dict(doc), Dumper=Dumper, allow_unicode=True, width=float("inf"), sort_keys=False))
