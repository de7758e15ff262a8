# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what watches a catalogue of error codes. See plugins/modules/error_code_rules.py for the docs."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.selfheal.delivery.plugins.module_utils._act.durable import make_folder, write_text
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import load
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.generate import Paging, route, rules, runbooks
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.model import METRIC, Catalogue
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts

_ROUTE: Dict[str, Dict[str, Any]] = {
    "receiver": {"type": "str", "required": True},
    "owners": {"type": "dict", "default": {}},
    "webhook_url": {"type": "str"},
    "webhook_url_file": {"type": "str"},
}


class ActionModule(ControllerAction):
    SPEC = {
        "catalogue": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
        "metric": {"type": "str", "default": METRIC},
        "route": {"type": "dict", "options": _ROUTE},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        catalogue = load(options["catalogue"])
        wanted = {
            os.path.join(options["dest"], name): text
            for name, text in _texts(catalogue, options["metric"], options["route"]).items()
        }
        diffs: List[Dict[str, str]] = []
        for path, text in wanted.items():
            there = _read(path)
            if there != text:
                diffs.append({"before": there or "", "after": text, "before_header": path, "after_header": path})
        if not self.checking:
            for diff in diffs:
                _write(diff["after_header"], diff["after"])
        return {
            "changed": bool(diffs),
            "files": list(wanted),
            "written": [diff["after_header"] for diff in diffs],
            "codes": len(catalogue.codes),
            "diff": diffs,
        }


def _texts(catalogue: Catalogue, metric: str, routed: Optional[Mapping[str, Any]]) -> Dict[str, str]:
    """Everything is made before anything is written."""
    texts = {"error_codes.rules.yml": rules(catalogue, metric)}
    if routed:
        if not str(routed["receiver"]).strip():
            raise OptionError("route.receiver is empty", mend="Name a receiver that your Alertmanager has")
        owners = {str(owner): str(receiver) for owner, receiver in (routed["owners"] or {}).items()}
        paging = Paging(
            str(routed["receiver"]),
            owners,
            str(routed["webhook_url"] or ""),
            str(routed["webhook_url_file"] or ""),
        )
        texts["error_codes.alertmanager.yml"] = route(catalogue, paging)
    return {**texts, "error_codes.runbooks.md": runbooks(catalogue)}


def _read(path: str) -> Optional[str]:
    """What is there; None where there is no file, or one that is not ours by its bytes."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return stream.read()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}", mend="Name a folder in dest") from None


def _write(path: str, text: str) -> None:
    real = os.path.realpath(path)
    try:
        make_folder(os.path.dirname(real))
        write_text(real, text)
    except OSError as error:
        mend = "Make room, or name a folder that may be written to in dest"
        raise OptionError(f"{path} could not be written: {error.strerror}", mend=mend) from None
