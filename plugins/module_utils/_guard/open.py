# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From options to a ledger: the one place that knows which stores there are."""

from __future__ import annotations

import os
from typing import Mapping, Optional

from .._errors import OptionError, StoreError, nearest
from .ledger import Ledger

STORES = ("sqlite",)
ENVIRONMENT = "SELFHEAL_LEDGER"
_OPTIONS = ("store", "path", "allow_network")


def default_path(environ: Mapping[str, str]) -> str:
    """SELFHEAL_LEDGER, or `selfheal/ledger.sqlite` in the user's state folder (XDG base directories)."""
    if environ.get(ENVIRONMENT):
        return environ[ENVIRONMENT]
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the standard says to ignore a relative one
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "selfheal", "ledger.sqlite")


def open_ledger(
    options: Mapping[str, object], *, create: bool = True, environ: Optional[Mapping[str, str]] = None
) -> Ledger:
    """The ledger that `options` name: `{store: sqlite, path: …, allow_network: false}`, each with a default.

    With `create` off, a ledger that is not there is a StoreError instead of a new one.
    """
    for name in options:
        if name not in _OPTIONS:
            raise OptionError(f"The ledger has no option {name!r}{nearest(name, _OPTIONS)}")
    store = options.get("store") or "sqlite"
    if store != "sqlite":
        raise OptionError(
            f"There is no ledger store {store!r}{nearest(str(store), STORES)}", mend="Set store to sqlite"
        )
    from .sqlite import MEMORY, SqliteLedger

    path = str(options.get("path") or default_path(os.environ if environ is None else environ))
    if path != MEMORY:
        path = os.path.abspath(os.path.expanduser(path))
        if not create and not os.path.exists(path):
            raise StoreError(
                f"There is no ledger at {path}",
                mend=f"Set the ledger's path, or {ENVIRONMENT}, to the one that the rollouts use",
                details={"path": path},
            )
    return SqliteLedger(path, create=create, allow_network=options.get("allow_network") is True)
