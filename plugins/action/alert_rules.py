# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make alert rules of the services' policies. See plugins/modules/alert_rules.py for the documentation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, List, Mapping, Sequence

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
from ansible_collections.selfheal.delivery.plugins.plugin_utils._kept import KeepingAction, seconds
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts, places_of, plain

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
        catalogue = load(options["catalogue"]) if options["catalogue"] else None
        made = rules(_services(options, task_vars), _watching(options), catalogue, options["metric"])
        kept = self.kept(made.text, options, task_vars, kind="rules")
        warnings = [*kept.pop("warnings", []), *_doubts(made)]
        told = {**kept, "alerts": made.alerts, "skipped": [asdict(one) for one in made.skipped]}
        return {**told, "warnings": warnings} if warnings else told


def _watching(options: Facts) -> Watching:
    durations = seconds(options, *_DURATIONS)
    labels = {name: label_name(label) if label else "" for name, label in (options["labels"] or {}).items()}
    return Watching(
        objective=share(Part("the task", {"objective": options["objective"]}, ("objective",)), "objective", 0.0),
        windows=windows(plain(options["windows"])),
        hold=durations["for"],
        keep_firing_for=durations["keep_firing_for"],
        silent_for=durations["silent_for"],
        labels=Labels(**labels),
        watchdog=alert_name(options["watchdog"]),
    )


def _services(options: Facts, task_vars: Mapping[str, Any]) -> List[Watched]:
    """The services by name, each with its policy as its own first host sees it."""
    names = [str(name) for name in options["services"]] or _all(task_vars)
    for option in ("objectives", "series"):
        for name in options[option]:
            if name not in names:
                raise OptionError(f"{option} names {name!r}, which is no service{nearest(name, names)}")
    return [_watched(name, options, task_vars) for name in names]


def _watched(name: str, options: Facts, task_vars: Mapping[str, Any]) -> Watched:
    variables = task_vars["hostvars"][places_of(name, task_vars)[0]]
    policies = variables.get("delivery_services") or {}
    if name not in policies:
        mend = "Give it one, with the same name as its group"
        raise OptionError(f"delivery_services has no policy of {name!r}{nearest(name, policies)}", mend=mend)
    return watched(
        name,
        plain(policies[name]),
        environment=str(variables.get("delivery_environment") or ""),
        objectives=plain(options["objectives"].get(name)),
        series=plain(options["series"].get(name)),
    )


def _all(task_vars: Mapping[str, Any]) -> Sequence[str]:
    """Every group of the inventory whose hosts have a policy of its name."""
    groups, hosts = task_vars.get("groups") or {}, task_vars["hostvars"]
    found = [
        str(name)
        for name, places in groups.items()
        if name not in ("all", "ungrouped") and places and name in (hosts[places[0]].get("delivery_services") or {})
    ]
    if not found:
        raise OptionError(
            "no group of the inventory has a policy", mend="Set delivery_services, with the names of inventory groups"
        )
    return sorted(found)


def _doubts(made: Made) -> List[str]:
    """What people would want to know, though the rules are right."""
    skipped = [f"{one.service}: no alert watches gate {one.gate}: {one.why}" for one in made.skipped]
    unheeded = [
        f"{service}: its guard acts on none of these alerts: guard.alerts does not name {made.acted_on}"
        for service in made.unheeded
    ]
    return skipped + unheeded
