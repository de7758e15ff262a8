# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make alert rules of the services' policies. See plugins/modules/alert_rules.py for the documentation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, List, Mapping, Sequence

from ansible.template import Templar

from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.model import (
    Labels,
    Watched,
    Watching,
    alert_name,
    label_name,
    share,
    watched,
    windows,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.rules import Made, rules
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.alert_file import FILE
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import load
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.model import METRIC
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, nearest
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.part import Part
from ansible_collections.selfheal.delivery.plugins.plugin_utils._kept import KeepingAction, seconds, untagged
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts, places_of

_WINDOW: Dict[str, Dict[str, Any]] = {
    "long": {"type": "str", "required": True},
    "short": {"type": "str"},
    "factor": {"type": "float", "required": True},
    "severity": {"type": "str", "choices": ["critical", "warning"], "default": "critical"},
}
_LABELS: Dict[str, Dict[str, Any]] = {
    "service": {"type": "str", "default": "service"},
    "environment": {"type": "str", "default": "environment"},
    "version": {"type": "str", "default": "version"},
}
_DURATIONS = ("for", "keep_firing_for", "silent_for")


class ActionModule(KeepingAction):
    SPEC = {
        **FILE,
        "services": {"type": "list", "elements": "str", "default": []},
        "objective": {"type": "str", "default": "99.9%"},
        "objectives": {"type": "dict", "default": {}},
        "windows": {"type": "list", "elements": "dict", "options": _WINDOW, "default": []},
        "labels": {"type": "dict", "options": _LABELS},
        "series": {"type": "dict", "default": {}},
        "for": {"type": "str", "default": "1m"},
        "keep_firing_for": {"type": "str", "default": "5m"},
        "silent_for": {"type": "str", "default": "10m"},
        "watchdog": {"type": "str", "default": "Watchdog"},
        "catalogue": {"type": "path"},
        "metric": {"type": "str", "default": METRIC},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        options = untagged(options)
        catalogue = load(options["catalogue"]) if options["catalogue"] else None
        made = rules(
            _services(options, Inventory(task_vars, self._loader)), _watching(options), catalogue, options["metric"]
        )
        kept = self.kept(made.text, options, task_vars, kind="rules")
        warnings = [*kept.pop("warnings", []), *_doubts(made)]
        told = {**kept, "alerts": made.alerts, "unwatched": [asdict(one) for one in made.unwatched]}
        return {**told, "warnings": warnings} if warnings else told


def _watching(options: Facts) -> Watching:
    durations = seconds(options, *_DURATIONS)
    labels = {name: label_name(label) if label else "" for name, label in (options["labels"] or {}).items()}
    return Watching(
        objective=share(Part("the task", {"objective": options["objective"]}, ("objective",)), "objective", 0.0),
        windows=windows(options["windows"]),
        hold=durations["for"],
        keep_firing_for=durations["keep_firing_for"],
        silent_for=durations["silent_for"],
        labels=Labels(**labels),
        watchdog=alert_name(options["watchdog"]),
    )


def _services(options: Facts, inventory: Inventory) -> List[Watched]:
    """The services by name, each with its policy as its own first host sees it."""
    names = [str(name) for name in options["services"]] or inventory.services()
    for option in ("objectives", "series"):
        for name in options[option]:
            if name not in names:
                raise OptionError(f"{option} names {name!r}, which is no service{nearest(name, names)}")
    return [
        watched(
            name,
            inventory.policy(name),
            environment=inventory.environment(name),
            objectives=options["objectives"].get(name),
            series=options["series"].get(name),
        )
        for name in names
    ]


class Inventory:
    """What the inventory says of services. Each policy is rendered by itself, with the variables of its first host.

    Another's may need variables that this host has not, and `hostvars` would render them all.
    """

    def __init__(self, task_vars: Mapping[str, Any], loader: Any) -> None:
        self._task_vars, self._loader = task_vars, loader

    def services(self) -> Sequence[str]:
        """Every group whose hosts have a policy of its name."""
        groups = self._task_vars.get("groups") or {}
        found = [
            str(name)
            for name, places in groups.items()
            if name not in ("all", "ungrouped") and places and name in self._policies(str(places[0]))
        ]
        if not found:
            mend = "Set delivery_services, with the names of inventory groups"
            raise OptionError("no group of the inventory has a policy", mend=mend)
        return sorted(found)

    def policy(self, service: str) -> object:
        host = places_of(service, self._task_vars)[0]
        policies = self._policies(host)
        if service not in policies:
            mend = "Give it one, with the same name as its group"
            raise OptionError(f"delivery_services has no policy of {service!r}{nearest(service, policies)}", mend=mend)
        return self._rendered(host, policies[service])

    def environment(self, service: str) -> str:
        host = places_of(service, self._task_vars)[0]
        return str(self._rendered(host, self._raw(host).get("delivery_environment")) or "")

    def _policies(self, host: str) -> Mapping[str, Any]:
        given = self._raw(host).get("delivery_services") or {}
        policies = self._rendered(host, given) if isinstance(given, str) else given
        if not isinstance(policies, Mapping):
            raise OptionError("delivery_services is no mapping", mend="Write it as service: policy")
        return policies

    def _raw(self, host: str) -> Mapping[str, Any]:
        raw: Mapping[str, Any] = self._task_vars["hostvars"].raw_get(host)
        return raw

    def _rendered(self, host: str, value: object) -> Any:
        variables = {**self._raw(host), "hostvars": self._task_vars["hostvars"]}
        return Templar(loader=self._loader, variables=variables).template(value)


def _doubts(made: Made) -> List[str]:
    """What people would want to know, though the rules are right."""
    unwatched = [f"{one.service}: no alert watches gate {one.gate}: {one.why}" for one in made.unwatched]
    unheeded = [
        f"{service}: its guard acts on none of these alerts: guard.alerts does not name {made.acted_on}"
        for service in made.unheeded
    ]
    return unwatched + unheeded
