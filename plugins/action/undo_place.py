# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One place's way back. See plugins/modules/undo_place.py for the documentation.

What the release task needs to be told is taken out of the rollout here: each template of a task is compiled anew, and
going back waits for it.
"""

from __future__ import annotations

from typing import Mapping

from ansible_collections.selfheal.delivery.plugins.action import release
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._part import done_by
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    LEASE_TTL,
    SERVICE,
    ControllerAction,
    Facts,
    plain,
)

# what of a policy the release task takes, besides the backend
_TAKEN = ("backend_options", "path", "restart", "health")


class ActionModule(ControllerAction):
    TRANSFERS_FILES = True

    SPEC = {
        **SERVICE,
        **LEDGER,
        "policy": {"type": "dict", "required": True},
        "held": {"type": "dict", "required": True},
        "batch": {"type": "list", "elements": "str", "required": True},
        "mark_bad": {"type": "str", "default": ""},
        "lease_ttl": {"type": "float", "default": LEASE_TTL},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        place, held = str(task_vars["inventory_hostname"]), plain(options["held"])
        try:
            rollout, before = held["rollout"], held["rollout"]["intent"]["before"]
            wish = release_wish(rollout, str(before.get(place) or ""))
        except (AttributeError, KeyError, TypeError) as error:
            raise OptionError(
                f"held is no rollout that is held ({error})", mend="Hand over what the rollout task returned"
            ) from None
        # where nothing ran before, there is nothing to go back to
        if place not in options["batch"] or place not in before:
            return {"changed": False, "skipped": True, "skip_reason": "it is not this place's turn"}
        policy = plain(options["policy"])
        given = {name: policy[name] for name in _TAKEN if name in policy}
        # the ledger as it was written: here, defaults are filled in that it does not take
        given["ledger"] = self._task.args.get("ledger") or {}
        given.update(wish, service=options["service"], backend=policy["backend"], lease=held["lease"])
        given.update({name: options[name] for name in ("mark_bad", "lease_ttl") if options[name]})
        return done_by(self, release.ActionModule, given, task_vars)


def release_wish(rollout: Mapping[str, object], to: str) -> Facts:
    """What the rollout says of this change; `to` is the release that its intent pins on the place, if it does."""
    return {
        "state": "known_good",
        "release": rollout["release"],
        "rollout": rollout["id"],
        "undo": rollout["kind"] == "canary",
        **({"to": to} if to else {}),
    }
