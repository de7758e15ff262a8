# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugins of this collection share: options in, a result out, who is acting, errors told once."""

from __future__ import annotations

import os
import socket
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible.plugins.action import ActionBase

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Clock
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.identity import person
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease

Facts = Dict[str, Any]
Spec = Dict[str, Dict[str, Any]]

_BOOT = "/proc/sys/kernel/random/boot_id"
LEASE_TTL = 60.0  # seconds a lease outlives the last sign of its holder

SERVICE: Spec = {"service": {"type": "str", "required": True}}
LEASE: Spec = {"lease": {"type": "dict", "required": True}, "rollout": {"type": "str", "required": True}}


class ControllerAction(ActionBase):
    """An action that runs on the controller. `act` returns what is merged into the result, or raises DeliveryError."""

    SPEC: Spec = {}
    REQUIRED_IF: Sequence[Sequence[object]] = ()

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Facts] = None) -> Facts:
        result: Facts = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(argument_spec=self.SPEC, required_if=list(self.REQUIRED_IF))
        try:
            result.update(self.act(options, task_vars or {}))
        except DeliveryError as error:
            service = options.get("service")
            told = error.on(service) if isinstance(service, str) else error
            result.update(failed=True, msg=told.message, **told.details)
        return result

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        """Do it with validated options."""
        raise NotImplementedError

    @property
    def checking(self) -> bool:
        return bool(self._task.check_mode)


def now() -> float:
    """Epoch seconds: leases are shared by processes, so the clock must be too."""
    return time.time()


def clock() -> Optional[Clock]:
    """This machine's other clock, by which the guard sees that the wall clock jumped; None where there is none."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    try:
        with open(_BOOT, encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    return Clock(boot, time.clock_gettime(time.CLOCK_BOOTTIME))


def holder() -> str:
    """Who holds a lease, in words that help the next one: machine and process of this ansible-playbook."""
    return f"{person()}@{socket.gethostname()} pid {os.getppid()}"


def actor(task_vars: Mapping[str, Any]) -> str:
    """The person or system on whose behalf this runs: the job's user under AWX, else the operating system's."""
    for name in ("awx_user_name", "tower_user_name"):
        user = task_vars.get(name)
        if isinstance(user, str) and user:
            return user
    return person()


def lease_from(fact: Mapping[str, Any]) -> Lease:
    """The lease as it travels between tasks; raises OptionError when it is not one."""
    try:
        return Lease(str(fact["service"]), str(fact["holder"]), int(fact["token"]), float(fact["expires"]))
    except (KeyError, TypeError, ValueError) as error:
        raise OptionError(
            f"the option lease is not a lease ({error})", mend="Hand over the lease that the rollout task returned"
        ) from None


def lease_fact(lease: Lease) -> Facts:
    return {"service": lease.service, "holder": lease.holder, "token": lease.token, "expires": lease.expires}


def plain(thing: Any) -> Any:
    """A copy in plain Python containers: Ansible's lazy and tagged ones cannot be pickled or stored."""
    if isinstance(thing, Mapping):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(value) for value in thing]
    if isinstance(thing, str):
        return str.__str__(thing)
    return thing


def places_of(service: str, task_vars: Mapping[str, Any]) -> List[str]:
    """The hosts of the service's group, in inventory order; never a pattern, never everything."""
    groups = task_vars.get("groups") or {}
    if service in ("all", "ungrouped"):
        raise OptionError(
            f"{service!r} is not a service but everything in the inventory", mend="Name the service's own group"
        )
    if service not in groups:
        raise OptionError(f"the inventory has no group {service!r}", mend="Set delivery_service to an inventory group")
    places = [str(host) for host in groups[service]]
    if not places:
        raise OptionError(
            f"the group {service!r} has no hosts", mend="An empty selection is never everything: add hosts"
        )
    return places


def targets_of(service: str, group: str, places: Sequence[str], task_vars: Mapping[str, Any]) -> List[Facts]:
    """Where each place is measured: the policy's source, rendered with that place's own variables."""
    targets = []
    for place in places:
        variables = task_vars["hostvars"][place]
        services = variables.get("delivery_services") or {}
        source = plain((services.get(group) or {}).get("source") or {})
        scraped = source.get("type") == "exposition"
        urls = source.get("urls") or ([source["url"]] if source.get("url") else [])
        if scraped and not urls:
            raise OptionError(f"{place} has no url to scrape", mend="Set source.url in the policy", service=service)
        instance = str(variables.get("ansible_host") or "")
        targets.append({"place": place, "urls": urls if scraped else [], "instance": instance})
    return targets
