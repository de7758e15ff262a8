# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of notifications as an Alertmanager 0.31 posted them; and one as Grafana's documentation describes them."""

from __future__ import annotations

from typing import Any, Dict

_BANK: Dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "BankErrors", "service": "bank", "severity": "critical"},
    "annotations": {
        "runbook_url": "https://runbooks.example.org/BankErrors",
        "summary": "7 % of requests fail",
    },
    "startsAt": "2026-11-21T18:55:42.193869Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=up",
    "fingerprint": "fd3f5423015ea6a4",
}
FIRING: Dict[str, Any] = {
    "receiver": "selfheal",
    "status": "firing",
    "alerts": [_BANK],
    "groupLabels": {"service": "bank"},
    "commonLabels": {"alertname": "BankErrors", "service": "bank", "severity": "critical"},
    "commonAnnotations": {
        "runbook_url": "https://runbooks.example.org/BankErrors",
        "summary": "7 % of requests fail",
    },
    "externalURL": "http://127.0.0.1:17051",
    "version": "4",
    "groupKey": '{}:{service="bank"}',
    "truncatedAlerts": 0,
}
# three seconds later
RESOLVED: Dict[str, Any] = {
    **FIRING,
    "status": "resolved",
    "alerts": [{**_BANK, "status": "resolved", "endsAt": "2026-11-21T18:55:45.201276Z"}],
}
# of a receiver with `max_alerts: 2`, in whose group three fired, one of them with a template in a label
TRUNCATED: Dict[str, Any] = {
    "receiver": "selfheal",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "ShopErrors",
                "instance": '{{ lookup("pipe","id") }}',
                "service": "shop",
                "severity": "critical",
                "version": "1.4.2",
            },
            "annotations": {
                "runbook_url": "https://runbooks.example.org/ShopErrors",
                "summary": "7 % of requests fail",
            },
            "startsAt": "2026-11-21T18:55:42.193869Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=up",
            "fingerprint": "80f49a6ec822bc5e",
        },
        {
            "status": "firing",
            "labels": {"alertname": "ShopQueue", "service": "shop", "severity": "warning"},
            "annotations": {
                "runbook_url": "https://runbooks.example.org/ShopQueue",
                "summary": "7 % of requests fail",
            },
            "startsAt": "2026-11-21T18:55:42.193869Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=up",
            "fingerprint": "85fe39e5570aa065",
        },
    ],
    "groupLabels": {"service": "shop"},
    "commonLabels": {"service": "shop"},
    "commonAnnotations": {"summary": "7 % of requests fail"},
    "externalURL": "http://127.0.0.1:17051",
    "version": "4",
    "groupKey": '{}:{service="shop"}',
    "truncatedAlerts": 1,
}
# grafana.com/docs/grafana/latest/alerting, "Configure webhook notifications"
GRAFANA: Dict[str, Any] = {
    "receiver": "selfheal",
    "status": "firing",
    "orgId": 1,
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Shop errors are high", "service": "shop", "grafana_folder": "shops"},
            "annotations": {"summary": "7 % of requests fail"},
            "startsAt": "2026-10-12T09:51:03.157076+02:00",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "https://grafana.example.org/alerting/1afz29v7z/edit",
            "fingerprint": "c6eadffa33fcdf37",
            "silenceURL": "https://grafana.example.org/alerting/silence/new?alertmanager=grafana",
            "dashboardURL": "",
            "panelURL": "",
            "values": {"B": 44.23943737541908, "C": 1},
        }
    ],
    "groupLabels": {},
    "commonLabels": {"service": "shop"},
    "commonAnnotations": {},
    "externalURL": "https://grafana.example.org/",
    "version": "1",
    "groupKey": "{}:{}",
    "truncatedAlerts": 0,
    "title": "[FIRING:1]  (shops)",
    "state": "alerting",
    "message": "**Firing**\n\nValue: B=44.2",
}
