# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says about the service that an event names: looked up by name, and never taken from the event."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, nearest
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.limits import GuardPolicy, parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import identity_of
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.event import Event
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.firing import Alerts, parse_alerts
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.ways import parse_response
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts, plain

_PATHS = ("path", "kubeconfig")


@dataclass(frozen=True)
class Scene:
    """A service as its first place sees it. `identity` is environment and name, as the ledger knows it.

    `environment` is the inventory's, '' for none; `services` are all that have a policy; `alerts` is whom to ask for
    alerts, if anybody; `response` are the ways back in the order to try, none where its policy does not say.
    """

    service: str
    environment: str
    identity: str
    places: Tuple[str, ...]
    services: FrozenSet[str]
    guard: GuardPolicy
    alerts: Optional[Alerts]
    ledger: Mapping[str, Any]
    runbook: str
    catalogue: str
    response: Tuple[str, ...] = ()


def scene_of(event: Event, task_vars: Mapping[str, Any], ledger: Mapping[str, Any]) -> Scene:
    """Look the event's service up; OptionError with the nearest name when the inventory does not know it."""
    service, groups = event.service, task_vars.get("groups") or {}
    places = tuple(str(host) for host in groups.get(service) or ())
    if not places:
        raise _unknown(service, groups)
    variables = task_vars["hostvars"][places[0]]
    policies = _mapping(variables, "delivery_services")
    if service not in policies:
        raise OptionError(
            f"delivery_services has no policy of it{nearest(service, policies)}",
            mend="Write its policy, or correct the label by which the alert names its service",
            service=service,
        )
    policy = _mapping(policies, service)
    environment = str(variables.get("delivery_environment") or "")
    if event.environment and event.environment != environment:
        raise OptionError(
            f"the {event.what} is about the environment {event.environment!r}, and these places are"
            f" {f'of {environment!r}' if environment else 'of none'}",
            mend="Set delivery_environment in the inventory, or send each environment's alerts to its own rulebook",
            service=service,
        )
    identity = identity_of(environment, service)
    return Scene(
        service=service,
        environment=environment,
        identity=identity,
        places=places,
        services=frozenset(str(name) for name in policies),
        guard=parse_guard({**_mapping(variables, "delivery_guard"), **_mapping(policy, "guard")}, identity),
        alerts=parse_alerts(_mapping(variables, "delivery_alerts"), os.environ),
        ledger=_ledger(_mapping(variables, "delivery_ledger")) or ledger,
        runbook=str(policy.get("runbook") or ""),
        catalogue=str(variables.get("delivery_error_codes") or ""),
        response=_response(policy, service),
    )


def _response(policy: Mapping[str, Any], service: str) -> Tuple[str, ...]:
    try:
        return parse_response(policy.get("response"))
    except OptionError as error:
        raise error.on(service) from None


def _mapping(things: Mapping[str, Any], name: str) -> Facts:
    found = things.get(name) or {}
    if not isinstance(found, Mapping):
        raise OptionError(f"{name} is no mapping", mend="Correct it in the inventory")
    return dict(found) if name == "delivery_services" else plain(found)


def _ledger(given: Mapping[str, Any]) -> Dict[str, Any]:
    """As a task's option of the type path would have it."""
    paths = {name: os.path.expandvars(os.path.expanduser(given[name])) for name in _PATHS if given.get(name)}
    return {**given, **paths}


def _unknown(service: str, groups: Mapping[str, Sequence[str]]) -> OptionError:
    if service in groups:
        return OptionError(
            f"the inventory's group {service!r} has no hosts", mend="An empty selection is never everything"
        )
    known = [str(name) for name in groups if name not in ("all", "ungrouped")]
    return OptionError(
        f"the inventory has no service {service!r}{nearest(service, known)}",
        mend="Correct the label by which the alert names its service, or add the group",
    )
