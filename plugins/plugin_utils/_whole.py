# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the whole service in this play? Plans refuse what would break their promise: keywords, limits, slices."""

from __future__ import annotations

from contextlib import closing
from typing import Any, List, Mapping, Sequence

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.story import named
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts

_ROLLOUTS = 20


def refuse_keywords(play: Any) -> None:
    """Refuse play keywords under which places could stay on a bad release."""
    if play.serial:
        raise OptionError(
            "the play uses serial, so a failure in a later batch would leave earlier ones on the release",
            mend="Remove serial: canary_steps and rollback_batches are the batches",
        )
    if play.max_fail_percentage is not None:
        raise OptionError(
            "the play uses max_fail_percentage, which ends it before the way back has run",
            mend="Remove max_fail_percentage",
        )
    if play.strategy not in ("linear", "ansible.builtin.linear"):
        raise OptionError(
            f"the play's strategy is {play.strategy!r}, under which places do not wait for the verdict",
            mend="Use strategy: linear",
        )


def refuse_missing(places: Sequence[str], task_vars: Mapping[str, Any]) -> None:
    """Refuse a play without some of the group's places: by `--limit`, or by a pattern."""
    here = {str(host) for host in task_vars.get("ansible_play_hosts_all") or []}
    missing = [place for place in places if place not in here]
    if missing:
        raise OptionError(
            f"{named(missing)} of the service {'is' if len(missing) == 1 else 'are'} not in this play",
            mend="Run without --limit and over the whole group; steps come from the group, never from a limit",
        )


def refuse_lost(places: Sequence[str], task_vars: Mapping[str, Any]) -> None:
    """Refuse to begin where a place was lost before."""
    left = {str(host) for host in task_vars.get("ansible_play_hosts") or []}
    lost = [place for place in places if place not in left]
    if lost:
        raise OptionError(
            f"{named(lost)} failed or became unreachable before the rollout began",
            mend="Bring it back, or take it out of the group; nothing was changed",
        )


def refuse_forgotten(options: Facts, places: Sequence[str]) -> None:
    """A place of the last rollout that is not in the group now was sliced off, or is forgotten."""
    with closing(ledger_from(options)) as ledger:
        fleets = (one.intent.get("fleet") for one in ledger.last_rollouts(options["service"], _ROLLOUTS))
        known: List[str] = next(([str(place) for place in one] for one in fleets if isinstance(one, list)), [])
    gone = [place for place in known if place not in places and place not in options["forget"]]
    if gone:
        raise OptionError(
            f"{named(gone)} of the last rollout {'is' if len(gone) == 1 else 'are'} not in the group any more",
            mend="A sliced or filtered inventory is refused; when it is gone for good, name it in canary_forget",
        )
