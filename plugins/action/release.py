# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intent, lease and outcome of a change to one place; the change itself is a module, the one of the place's backend."""

from __future__ import annotations

import os
import tarfile
import tempfile

from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import RESTARTED
from ansible_collections.selfheal.delivery.plugins.module_utils._act.options import ARGUMENTS, RELEASES_REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._backends import changed
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts
from ansible_collections.selfheal.delivery.plugins.plugin_utils._record import RecordedAction, spec_of

RESTARTS = ("releases", "deployment")  # the backends that can
# what only the copying on the controller needs
COPYING = ("src", "remote_src")


class ActionModule(RecordedAction):
    TRANSFERS_FILES = True
    MODULE = "selfheal.delivery.release"
    SPEC = spec_of(ARGUMENTS)
    REQUIRED_IF = (*REQUIRED_IF, *RELEASES_REQUIRED_IF)

    def change(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        if options["state"] == RESTARTED and options["backend"] not in RESTARTS:
            raise OptionError(
                f"the backend {options['backend']} has no restart", mend=f"Only {' and '.join(RESTARTS)} have one"
            )
        if options["backend"] != "releases":
            return changed(self, options, given, task_vars)
        if options["share"] < 100:
            raise OptionError("a machine runs one release at a time, without a share of another", mend="Remove share")
        return self._brought(options, given, task_vars)

    def _brought(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        """Run the module on the machine, with the content of the release brought there."""
        given = {name: value for name, value in given.items() if name not in COPYING}
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
            return super().change(options, given, task_vars)
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
