# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's own metrics. See plugins/modules/guard_metrics.py for the documentation."""

from __future__ import annotations

import os
import socket
from collections import Counter
from contextlib import closing
from typing import List, Mapping, Optional, Tuple

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, TellError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import clock as clocks
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.limits import GuardPolicy, parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.outlook import outlook
from ansible_collections.selfheal.delivery.plugins.module_utils._tell import metrics
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.channel import host_of
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.heartbeat import WATCHDOG, seen_at
from ansible_collections.selfheal.delivery.plugins.plugin_utils._pauses import pauses_of
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts, clock, now, plain


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **LEDGER,
        "path": {"type": "path"},
        "gateway": {"type": "str"},
        "job": {"type": "str", "default": "selfheal"},
        "instance": {"type": "str"},
        "timeout": {"type": "float", "default": 10.0},
        "guard": {"type": "dict", "default": {}},
        "guards": {"type": "dict", "default": {}},
        "verify": {"type": "bool", "default": True},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        path = os.path.abspath(options["path"]) if options["path"] else ""
        if path and not path.endswith(".prom"):
            raise OptionError("path does not end in .prom", mend="The textfile collector reads no other files")
        gateway = _gateway(options)
        guards = {str(name): plain(guard) for name, guard in (options["guards"] or {}).items()}
        with closing(ledger_from(options, create=False)) as ledger:
            counters, health = ledger.counters(), _health(ledger, plain(options["guard"] or {}), guards)
            chain = [ledger.verify() is None] if options["verify"] else []
        figures = metrics.figures(counters, health, chain)
        text, before = metrics.exposition(figures), _read(path)
        result: Facts = {"changed": bool(gateway or (path and text != before)), "metrics": text}
        if path:
            result["diff"] = {"before": before, "after": text, "before_header": path, "after_header": path}
        if not self.checking:
            if path:
                metrics.write(path, figures)
            if gateway:
                gateway.push(figures)
        went = [path] * bool(path) + [f"gateway {host_of(options['gateway'] or '')}"] * bool(gateway)
        return {**result, "msg": f"metrics of {len(health.services)} services{' to ' if went else ''}{', '.join(went)}"}


def _gateway(options: Facts) -> Optional[metrics.Gateway]:
    if not options["gateway"]:
        return None
    return metrics.Gateway(
        options["gateway"], options["job"], options["instance"] or socket.gethostname(), options["timeout"]
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise TellError(f"{path} cannot be read", mend="Name a file that this user may write") from None


def _health(ledger: Ledger, guard: Mapping[str, object], guards: Mapping[str, Mapping[str, object]]) -> metrics.Health:
    at, fleet, newest = now(), ledger.fleet(), ledger.last_entries(limit=1)
    services = [
        outlook(parse_guard(guards.get(name, guard), name), name, ledger.memory(name), fleet, at)
        for name in ledger.services()
    ]
    running: List[Tuple[str, str, str]] = [(one.service, one.kind, one.state) for one in ledger.unfinished()]
    return metrics.Health(
        services=services,
        pauses=metrics.ends(pauses_of(ledger, "", at)),
        running=Counter(running),
        entries=newest[0].seq if newest else 0,
        drift=_drift(ledger, parse_guard(guard, ""), at),
        watchdog_at=seen_at(ledger.note(WATCHDOG)),
    )


def _drift(ledger: Ledger, policy: GuardPolicy, at: float) -> float:
    """As the next decision of this machine would see it."""
    note, here = ledger.note("clocks"), clock()
    boots, newest = note.get("boots"), note.get("newest")
    known = boots.get(here.boot) if isinstance(boots, Mapping) and here is not None else None
    return clocks.watch(
        known if isinstance(known, Mapping) else {},
        at,
        here,
        None,
        float(newest) if isinstance(newest, (int, float)) else None,
        policy.clock_settle,
        policy.clock_tolerance,
    )[1]
