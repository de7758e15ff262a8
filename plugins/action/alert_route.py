# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make Alertmanager's way to the controller. See plugins/modules/alert_route.py for the documentation."""

from __future__ import annotations

from dataclasses import fields
from typing import Mapping

from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.model import alert_name
from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.route import (
    ACTING,
    NOBODY,
    Endpoint,
    Timing,
    configuration,
    way,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.alert_file import FILE
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.generate import HEALER
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._kept import KeepingAction, seconds, untagged
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts

_ENDPOINT = tuple(field.name for field in fields(Endpoint))
_DURATIONS = ("group_wait", "group_interval", "repeat_interval", "watchdog_every")


class ActionModule(KeepingAction):
    SPEC = {
        **FILE,
        "url": {"type": "str", "required": True},
        "credentials_file": {"type": "str", "default": ""},
        "username": {"type": "str", "default": ""},
        "password_file": {"type": "str", "default": "", "no_log": False},
        "ca_file": {"type": "str", "default": ""},
        "cert_file": {"type": "str", "default": ""},
        "key_file": {"type": "str", "default": "", "no_log": False},
        "server_name": {"type": "str", "default": ""},
        "unauthenticated": {"type": "bool", "default": False},
        "group_wait": {"type": "str", "default": "1s"},
        "group_interval": {"type": "str", "default": "15s"},
        "repeat_interval": {"type": "str", "default": "5m"},
        "max_alerts": {"type": "int", "default": 500},
        "responses": {"type": "list", "elements": "str", "choices": [*ACTING, "page"], "default": list(ACTING)},
        "receiver": {"type": "str", "default": HEALER},
        "watchdog": {"type": "str", "default": "Watchdog"},
        "watchdog_every": {"type": "str", "default": "1m"},
        "watchdog_continue": {"type": "bool", "default": False},
        "config": {"type": "dict"},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        options = untagged(options)
        if options["max_alerts"] < 1:
            raise OptionError("max_alerts is below 1", mend="Name how many alerts one POST may hold, such as 500")
        made = way(
            Endpoint(**{name: options[name] for name in _ENDPOINT}),
            Timing(**seconds(options, *_DURATIONS), max_alerts=options["max_alerts"]),
            watchdog=alert_name(options["watchdog"]),
            watchdog_continue=options["watchdog_continue"],
            receiver=options["receiver"],
            responses=options["responses"],
        )
        config: Mapping[str, object] = options["config"] or NOBODY
        secret = bool(options["config"])
        kept = self.kept(configuration(made, config), options, task_vars, kind="alertmanager", secret=secret)
        if secret:
            kept.pop("content", None)
        warnings = [*kept.pop("warnings", []), *made.warnings]
        told = {**kept, "routes": made.routes, "receivers": made.receivers}
        return {**told, "warnings": warnings} if warnings else told
