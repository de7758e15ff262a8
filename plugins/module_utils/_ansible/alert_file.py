# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a checked file of rules or routes, and the module's work."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping
from urllib.error import HTTPError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import ConnectionError as Unreachable
from ansible.module_utils.urls import open_url

from .._alerting.keep import CHECKERS, Wanted, keep
from .._errors import OptionError, PlaceError
from .._tell.text import clean

Spec = Dict[str, Dict[str, Any]]

# what the actions that make a file take as well
FILE: Spec = {
    "path": {"type": "path"},
    "checker": {"type": "path"},
    "must_check": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
    "reload_url": {"type": "str"},
    "reload_username": {"type": "str"},
    "reload_password": {"type": "str", "no_log": True},
    "reload_timeout": {"type": "float", "default": 30.0},
    "validate_certs": {"type": "bool", "default": True},
}
ARGUMENTS: Spec = {
    **FILE,
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "kind": {"type": "str", "required": True, "choices": sorted(CHECKERS)},
    "secret": {"type": "bool", "default": False},
}


def alert_file(module: AnsibleModule) -> Mapping[str, object]:
    params = module.params
    wanted = Wanted(
        path=params["path"],
        text=params["content"],
        kind=params["kind"],
        checker=params["checker"] or "",
        must_check=params["must_check"],
        secret=params["secret"],
        force=params["force"],
    )
    address = _address(params["reload_url"]) if params["reload_url"] else ""
    reload = (lambda: _reload(address, params)) if address else None
    told = keep(wanted, checking=module.check_mode, env=os.environ, reload=reload)
    if os.path.exists(params["path"]):
        files = module.load_file_common_arguments(params)
        told["changed"] = module.set_fs_attributes_if_different(files, told["changed"])
    return told


def _address(url: str) -> str:
    """Where to ask, without repeating it in an error: it may hold a secret."""
    scheme, _sep, rest = url.partition("://")
    if scheme not in ("http", "https") or "@" in rest or not rest:
        mend = "Write it like http://127.0.0.1:9090, and give reload_username and reload_password where they are needed"
        raise OptionError("reload_url is not a plain http or https URL", mend=mend)
    return url if url.endswith("/-/reload") else f"{url.rstrip('/')}/-/reload"


def _reload(address: str, params: Mapping[str, Any]) -> None:
    """Ask what runs to read its configuration; PlaceError when it has not."""
    user = params["reload_username"]
    try:
        open_url(
            address,
            method="POST",
            timeout=params["reload_timeout"],
            url_username=user,
            url_password=params["reload_password"],
            force_basic_auth=bool(user),
            validate_certs=params["validate_certs"],
            follow_redirects="none",
        ).close()
    except HTTPError as error:
        said = clean(error.read(2000).decode("utf-8", "replace"), 200)
        mend = "Prometheus needs --web.enable-lifecycle" if error.code == 403 else "See its log"
        raise PlaceError(f"{address} answers HTTP {error.code}: {said}", mend=f"Nothing was changed. {mend}") from None
    except (Unreachable, OSError, ValueError) as error:
        reason = clean(str(getattr(error, "reason", error)), 200)
        raise PlaceError(f"{address} cannot be asked: {reason}", mend="Nothing was changed. Is it running?") from None
