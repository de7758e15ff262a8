# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intent, lease and outcome of a change to one place; the change itself is a module, which only checks its token."""

from __future__ import annotations

from contextlib import closing, contextmanager
from copy import deepcopy
from typing import Any, Dict, Iterator, Mapping, Optional

from ansible.utils.display import Display

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import CONTROLLER, LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    OptionError,
    StoreError,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    FLAG_OFF,
    FLAG_ON,
    PERSON,
    PROMOTE,
    RESTART,
    ROLLBACK,
    ROLLOUT,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.keeper import LeaseKeeper
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import (
    RECORDED,
    is_masked,
    kept_template,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.rollouts import new_id, refusal
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    LEASE_TTL,
    SERVICE,
    ControllerAction,
    Facts,
    Spec,
    actor,
    clock,
    holder,
    lease_from,
    now,
    plain,
)

display = Display()
OURS: Spec = {
    **SERVICE,
    **LEDGER,
    "lease": {"type": "dict"},
    "rollout": {"type": "str"},
    "lease_ttl": {"type": "float", "default": LEASE_TTL},
}


def spec_of(arguments: Spec) -> Spec:
    """The action's options: the module's, with those that the controller takes for itself; the token is never given."""
    # a copy: to validate a task writes into the defaults, which the module's own validation begins with
    return deepcopy({**{name: spec for name, spec in arguments.items() if name != "token"}, **OURS})


class RecordedAction(ControllerAction):
    """An action beside a module that changes something. `MODULE` is its name, `SPEC` comes from `spec_of`.

    Inside a rollout the task brings the rollout's lease; a task of its own takes the service's lease for the change.
    """

    MODULE = ""

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        # as they were written, for the module to validate: here, defaults are filled in that exclude each other there
        written = self._task.args.items()
        given = {key: plain(value) for key, value in written if value is not None and key not in CONTROLLER}
        if self.checking:
            # without the token: a rehearsed rollout has none that a place would let pass
            return self._changed(options, given, task_vars)
        if options["lease"]:
            if not options["rollout"]:
                raise OptionError("lease is given without rollout", mend="Hand over both, as the rollout task returned")
            return self._recorded(options, given, lease_from(options["lease"]), task_vars)
        with _own_lease(options, actor(task_vars)) as lease:
            return self._recorded(options, given, lease, task_vars)

    def change(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        """Run the module where the place is; `given` are its options."""
        result: Facts = self._execute_module(module_name=self.MODULE, module_args=given, task_vars=task_vars)
        return result

    def _changed(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        """Change it; a release that the place has pruned is gone back to by what the ledger kept of it there."""
        result = self.change(options, given, task_vars)
        if not (result.get("failed") and result.get("pruned")) or given.get("template"):
            return result
        place = str(task_vars["inventory_hostname"])
        try:
            with closing(ledger_from(options, create=False)) as ledger:
                kept = kept_template(ledger, options["service"], place, str(options.get("to") or ""))
        except DeliveryError:
            return result  # it already says where the template would have to come from
        if kept is None:
            return result
        release, template = kept
        if is_masked(template):
            display.warning(
                f"what the ledger kept of release {release} on {place} has secrets masked in it: it is not restored by"
                " that, so give its template yourself"
            )
            return result
        display.warning(f"release {release} is pruned on {place}: it is restored by what the ledger kept of it")
        return self.change(options, {**given, "to": release, "template": plain(template)}, task_vars)

    def _recorded(self, options: Facts, given: Facts, lease: Lease, task_vars: Facts) -> Facts:
        """Nothing happens on the place that the ledger does not know of first, but for the undo of our own rollout."""
        given = {**given, "token": lease.token}
        place = str(task_vars["inventory_hostname"])
        record = _Record(options, place=place, who=actor(task_vars))
        noted = record.note("action", self.intent(options), lease)
        if noted is None:
            with LeaseKeeper(lambda: ledger_from(options), lease, ttl=options["lease_ttl"]):
                result = self._changed(options, given, task_vars)
        else:
            result = self._changed(options, given, task_vars)
            display.warning(noted)
        unnoted = record.note("outcome", self.outcome(result), None)
        if unnoted is not None:
            display.warning(unnoted)
        result["recorded"] = noted is None and unnoted is None
        if unnoted is None:
            # the ledger has it, for its owner alone; a job's output is read by many, and a template may hold secrets
            result.pop("template", None)
        return result

    def intent(self, options: Facts) -> Facts:
        """What the ledger is told before the change."""
        return {"state": options["state"], "release": options.get("release")}

    def outcome(self, result: Facts) -> Facts:
        """What the ledger is told after the change."""
        return _outcome(result)


# what a single change is, by the state that its task wants
_WISHED = {
    "deployed": ROLLOUT,
    "promoted": PROMOTE,
    "known_good": ROLLBACK,
    "restarted": RESTART,
    "off": FLAG_OFF,
    "on": FLAG_ON,
}


@contextmanager
def _own_lease(options: Facts, who: str) -> Iterator[Lease]:
    """The service's lease for one change, when the guard allows it to the person who runs this task."""
    service, request = options["service"], new_id()
    wish = Request(
        id=request,
        service=service,
        action=_WISHED.get(str(options.get("state")), ROLLBACK),
        trigger=Trigger(PERSON, "task", request),
        actor=who,
        # the place itself finds the release to go back to, and refuses when there is none
        situation=Situation(
            current=str(options.get("release") or ""), known_good=options.get("to") or "its own", places=1
        ),
    )
    with closing(ledger_from(options)) as ledger:
        grant = ledger.decide(
            wish, parse_guard({}, service), holder=holder(), ttl=options["lease_ttl"], now=now(), clock=clock()
        )
        if grant.lease is None:
            raise refusal(grant.decision)
        lease = grant.lease
        try:
            yield lease
        finally:
            try:
                ledger.release(lease, now())
            except StoreError as error:
                # what was changed was changed; the lease runs out by itself
                display.warning(error.message)


class _Record:
    """What the ledger is told of one change. A dead store stops every change but the undo of our own rollout."""

    def __init__(self, options: Facts, *, place: str, who: str) -> None:
        self._options = options
        self._place = place
        self._who = who

    def note(self, kind: str, body: Mapping[str, Any], lease: Optional[Lease]) -> Optional[str]:
        """Write it, under the lease where one is given. Returns a warning where an undo goes on without it."""
        facts: Dict[str, Any] = {"rollout": self._options["rollout"] or "", "place": self._place, **body}
        try:
            with closing(ledger_from(self._options)) as ledger:
                ledger.append(self._options["service"], kind, self._who, facts, now(), lease)
        except StoreError as error:
            if kind == "action" and not _goes_back(self._options):
                raise
            return f"{error.message} The change goes on and is kept in the journal on {self._place}."
        return None


def _goes_back(options: Facts) -> bool:
    """Inside a rollout, whose intent was written before its first change, and authorises its way back."""
    return bool(options.get("undo") or (options.get("rollout") and options.get("state") == "known_good"))


def _outcome(result: Mapping[str, Any]) -> Facts:
    return {
        "ok": not (result.get("failed") or result.get("unreachable")),
        "changed": bool(result.get("changed")),
        "before": result.get("before"),
        "current": result.get("current"),
        "msg": str(result.get("msg") or "")[:500],
        # what a promotion says of the release outlives what the place itself prunes
        **{name: plain(result[name]) for name in RECORDED if result.get(name)},
    }
