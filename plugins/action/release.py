# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intent, lease and outcome of a change to one place; the change itself is the module of the same name."""

from __future__ import annotations

import os
import tarfile
import tempfile
from contextlib import closing
from typing import Any, Dict, Mapping, Optional

from ansible.utils.display import Display

from ansible_collections.selfheal.delivery.plugins.module_utils._act.options import ARGUMENTS, REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import LEDGER, ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.keeper import LeaseKeeper
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    LEASE,
    LEASE_TTL,
    SERVICE,
    ControllerAction,
    Facts,
    actor,
    lease_from,
    now,
    plain,
)

# the controller's own options; the place is told the others, and the fencing token of the lease
OURS = ("service", "ledger", "lease", "lease_ttl", "src", "remote_src")
display = Display()
MODULE = "selfheal.delivery.release"


class ActionModule(ControllerAction):
    TRANSFERS_FILES = True

    SPEC = {
        **{name: spec for name, spec in ARGUMENTS.items() if name != "token"},
        **SERVICE,
        **LEDGER,
        **LEASE,
        "lease_ttl": {"type": "float", "default": LEASE_TTL},
    }
    REQUIRED_IF = REQUIRED_IF

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        lease = lease_from(options["lease"])
        # as they were written, for the module to validate: here, defaults are filled in that exclude each other there
        given = {key: plain(value) for key, value in self._task.args.items() if value is not None and key not in OURS}
        if self.checking:
            # without the token: a rehearsed rollout has none that a place would let pass
            return self._change(options, given, task_vars)
        given["token"] = lease.token
        return self._recorded(options, given, lease, task_vars)

    def _recorded(self, options: Facts, given: Facts, lease: Lease, task_vars: Facts) -> Facts:
        """Nothing happens on the place that the ledger does not know of first, but for the undo of our own rollout."""
        place = str(task_vars["inventory_hostname"])
        record = _Record(options, place=place, who=actor(task_vars))
        noted = record.note("action", {"state": options["state"], "release": options["release"]}, lease)
        if noted is None:
            with LeaseKeeper(lambda: ledger_from(options), lease, ttl=options["lease_ttl"]):
                result = self._change(options, given, task_vars)
        else:
            result = self._change(options, given, task_vars)
            display.warning(noted)
        unnoted = record.note("outcome", _outcome(result), None)
        if unnoted is not None:
            display.warning(unnoted)
        result["recorded"] = noted is None and unnoted is None
        return result

    def _change(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        given = dict(given)
        packed = ""
        try:
            if options.get("src") and options["state"] == "deployed":
                if options["remote_src"] or self._connection.transport == "local":
                    given["src"] = options["src"]
                elif not self.checking:
                    found = self._find_needle("files", options["src"])
                    local = _packed(found)
                    packed = local if local != found else ""
                    given["src"] = self._sent(local)
            result: Facts = self._execute_module(module_name=MODULE, module_args=given, task_vars=task_vars)
            return result
        finally:
            if packed:
                os.unlink(packed)

    def _sent(self, local: str) -> str:
        """Copy the packed release to the place, into the temporary folder that Ansible removes after the task."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "release.tar")
        self._transfer_file(local, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        return str(remote)


class _Record:
    """What the ledger is told of one change. A dead store stops every change but the undo of our own rollout."""

    def __init__(self, options: Facts, *, place: str, who: str) -> None:
        self._options = options
        self._place = place
        self._who = who

    def note(self, kind: str, body: Mapping[str, Any], lease: Optional[Lease]) -> Optional[str]:
        """Write it, under the lease where one is given. Returns a warning where an undo goes on without it."""
        facts: Dict[str, Any] = {"rollout": self._options["rollout"], "place": self._place, **body}
        try:
            with closing(ledger_from(self._options)) as ledger:
                ledger.append(self._options["service"], kind, self._who, facts, now(), lease)
        except StoreError as error:
            if kind == "action" and not self._options.get("undo"):
                raise
            return f"{error.message} The change goes on and is kept in the journal on {self._place}."
        return None


def _outcome(result: Mapping[str, Any]) -> Facts:
    return {
        "ok": not (result.get("failed") or result.get("unreachable")),
        "changed": bool(result.get("changed")),
        "current": result.get("current"),
        "msg": str(result.get("msg") or "")[:500],
    }


def _packed(source: str) -> str:
    """A tar archive of the folder `source`, the same bytes for the same content; an archive is sent as it is."""
    if not os.path.isdir(source):
        return source
    handle, packed = tempfile.mkstemp(suffix=".selfheal.tar")
    try:
        with (
            os.fdopen(handle, "wb") as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.add(source, arcname=".", filter=_anonymous)
    except OSError as error:
        os.unlink(packed)
        raise OptionError(f"{source} cannot be packed: {error.strerror}", mend="Check src on the controller") from error
    return packed


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owner names of the controller mean nothing on the place."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
