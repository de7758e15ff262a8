# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who acts, as far as this machine knows: for the ledger's actors, and for the `by` of people who do not say."""

from __future__ import annotations

import os
import pwd


def person() -> str:
    """The user this process runs as: the account itself, not what the environment claims."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # containers run as numbers without a name
        return f"uid {uid}"
