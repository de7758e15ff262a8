# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead man's switch, both ways. See plugins/modules/heartbeat.py for the documentation."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import Callable, Dict, List

from ansible.module_utils.common.parameters import env_fallback

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, TellError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.part import Part
from ansible_collections.selfheal.delivery.plugins.module_utils._tell import heartbeat, metrics
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.channel import host_of
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts, now

DURATIONS = ("every", "max_silence")
NOTE = "heartbeat"  # what is written to the ledger, to see that it can be


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **LEDGER,
        "state": {"type": "str", "required": True, "choices": ["sent", "seen", "checked"]},
        "path": {"type": "path"},
        "gateway": {"type": "str"},
        "job": {"type": "str", "default": "selfheal"},
        "instance": {"type": "str"},
        "url": {"type": "str", "no_log": True, "fallback": (env_fallback, ["SELFHEAL_HEARTBEAT_URL"])},
        "method": {"type": "str", "choices": ["GET", "POST"], "default": "GET"},
        "every": {"type": "str", "default": "60s"},
        "timeout": {"type": "float", "default": 10.0},
        "at": {"type": "float"},
        "source": {"type": "str", "default": ""},
        "max_silence": {"type": "str", "default": "5m"},
        "on_silent": {"type": "str", "choices": ["fail", "warn"], "default": "fail"},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        todo: Dict[str, Callable[[Facts], Facts]] = {"sent": self._send, "seen": self._see, "checked": self._check}
        part = Part("heartbeat", {name: options[name] for name in DURATIONS}, DURATIONS)
        for name in DURATIONS:
            options[name] = part.seconds(name, 0.0, least=1.0)
        return todo[options["state"]](options)

    def _send(self, options: Facts) -> Facts:
        """To every way that is named, even when one of them fails; never without a ledger that can be written."""
        if not (options["path"] or options["gateway"] or options["url"]):
            raise OptionError("A heartbeat needs somewhere to go", mend="Set path, gateway or url")
        name = options["instance"] or socket.gethostname()
        with closing(ledger_from(options, create=False)) as ledger:
            if not self.checking:
                prove(ledger, name)
            beat = heartbeat.Beat(now(), options["every"], name, ledger.head())
        sent, failures = [], []
        for to, send in self._ways(options, beat).items():
            try:
                if not self.checking:
                    send()
                sent.append(to)
            except TellError as error:
                failures.append(error)
        if failures:
            raise TellError(
                "; ".join(error.what for error in failures), mend=failures[0].mend, details={"sent_to": sent}
            )
        return {"changed": True, "at": beat.at, "sent_to": sent, "msg": f"heartbeat sent to {', '.join(sent)}"}

    def _ways(self, options: Facts, beat: heartbeat.Beat) -> Dict[str, Callable[[], None]]:
        """What to do, by the name under which it may be shown."""
        path, gateway, url, timeout = options["path"], options["gateway"], options["url"], options["timeout"]
        ways: Dict[str, Callable[[], None]] = {}
        if path:
            ways[path] = lambda: heartbeat.write(os.path.abspath(path), beat)
        if gateway:
            pushed = metrics.Gateway(gateway, options["job"], beat.host, timeout)
            ways[f"gateway {host_of(gateway)}"] = lambda: pushed.push(metrics.beating(beat))
        if url:
            ways[f"url {host_of(url)}"] = lambda: heartbeat.ping(url, options["method"], beat, timeout)
        return ways

    def _see(self, options: Facts) -> Facts:
        at, source = now(), options["source"]
        when = at if options["at"] is None else options["at"]
        with closing(ledger_from(options, create=not self.checking)) as ledger:
            before = ledger.note(heartbeat.WATCHDOG)
            after = heartbeat.heard(before, when, source, at)
            if not self.checking:
                after = dict(
                    ledger.change_note(heartbeat.WATCHDOG, lambda note: heartbeat.heard(note, when, source, at))
                )
        return {"changed": True, "at": after["at"], "msg": "the Watchdog alert was seen"}

    def _check(self, options: Facts) -> Facts:
        with closing(ledger_from(options, create=False)) as ledger:
            note = ledger.note(heartbeat.WATCHDOG)
        why = heartbeat.silent(note, options["max_silence"], now())
        found: Facts = {"changed": False, "alive": why is None, "at": heartbeat.seen_at(note)}
        if why is None:
            return {**found, "msg": "the alerts are alive"}
        message = f"The alerts cannot be believed: {why}"
        mend = "Check Prometheus and Alertmanager, and the way from there to here"
        if options["on_silent"] == "fail":
            raise TellError(message, mend=mend, details=found)
        warnings: List[str] = [message]
        return {**found, "msg": f"{message}. {mend}.", "warnings": warnings}


def prove(ledger: Ledger, name: str) -> None:
    """Write to the ledger; StoreError when that is not possible, as an action would find it."""
    ledger.change_note(NOTE, lambda _before: {"at": now(), "from": name})
