# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the backend `flag`, and how what is wished and known of a release is said of a feature flag. Pure.

A provider keeps nothing of ours, so that a place has two releases: `off` is what was there before, known good and never
bad, and `on` is what is tried. What turns the flag is module `feature_flag`.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ..._errors import OptionError
from ..._flags.model import OFF, ON
from ..._flags.options import INFO_ARGUMENTS
from ..._flags.texts import same
from ..._flags.verify import said_share
from .. import plan
from ..model import DEPLOYED, KNOWN_GOOD, PROMOTED, Good, Release, Situation, number, text
from ..wishes import Spec

# what the policy's backend_options may say; the last two are how the service's metrics name the two sides
ARGUMENTS: Spec = {
    **INFO_ARGUMENTS,
    "serve": {"type": "raw", "default": True},
    "serve_off": {"type": "raw", "default": False},
    "arm_on": {"type": "str", "default": ON},
    "arm_off": {"type": "str", "default": OFF},
}
WHERE = tuple(INFO_ARGUMENTS)
_WHOSE = "To turn a flag on is a person's decision: release on with the role canary"
_TOLD = ("changed", "status", "call_took", "effective_after", "served", "diff", "warnings", "msg", "failed")


def wish(own: Mapping[str, object], wishes: Mapping[str, object], *, share: float) -> Dict[str, object]:
    """The options of module `feature_flag` for the wishes of a release. OptionError for what a flag cannot be."""
    where = {name: value for name, value in own.items() if name in WHERE}
    state, release = text(wishes, "state") or DEPLOYED, text(wishes, "release")
    if text(wishes, "src"):
        raise OptionError("a flag has no content that src could be", mend="Remove src, or canary_src")
    if state == KNOWN_GOOD:
        _only(OFF, text(wishes, "to") or OFF, _WHOSE)
        _only(ON, release or ON, "A flag that is off has nothing to go back to")
        return {**where, "state": OFF, "serve": served_off(own), "reason": text(wishes, "mark_bad")}
    checked_release(release)
    if text(wishes, "rollback") == "blocked":
        raise OptionError("a flag may always be turned off", mend="Remove rollback: blocked")
    if not 0 < share <= 100:
        raise OptionError(f"share is {share:g}, not above 0 and at most 100", mend="state: known_good turns it off")
    percentage = 100.0 if state == PROMOTED else share
    return {**where, "state": ON, "serve": served_on(own), "percentage": percentage}


def checked_release(release: str) -> str:
    """`release`, when it is `on`; OptionError otherwise. Without quotes, YAML has made true of it."""
    quoted = "Write it in quotes, as YAML takes it for true otherwise"
    _only(ON, release, quoted if release.lower() == "true" else f"{OFF} is where it goes back to")
    return release


def _only(known: str, release: str, mend: str) -> None:
    if release != known:
        raise OptionError(f"release {release!r} is none of a feature flag: here it can be {known!r} alone", mend=mend)


def served_on(own: Mapping[str, object]) -> object:
    return own["serve"] if own.get("serve") is not None else True


def served_off(own: Mapping[str, object]) -> object:
    return own["serve_off"] if own.get("serve_off") is not None else False


def share_of(state: Mapping[str, object], served: Mapping[str, object], own: Mapping[str, object]) -> Optional[float]:
    """Of 100 clients, how many are served the on side; None where the flag's own rules say whom.

    What clients are served counts before what management says: one that is turned off may not be off for them yet.
    """
    if served.get("known") is True and served.get("percentage") is not None:
        return number(served, "percentage")
    if state.get("on") is not True:
        still = served.get("known") is True and same(served.get("value"), served_on(own))
        return None if still else 0.0
    return None if state.get("percentage") is None else number(state, "percentage")


def release_at(share: Optional[float]) -> str:
    """The release of a place where `share` of 100 clients are served the on side: while it is a part, the old one."""
    return ON if share is None or share >= 100 else OFF


def outcome(
    result: Mapping[str, Any], own: Mapping[str, object], release: str, *, dry: bool = False
) -> Dict[str, object]:
    """What module `feature_flag` returned, in the words of a release's change; of a dry run, what would be."""
    told = {name: result[name] for name in _TOLD if name in result}
    if not result.get("before"):
        return {**told, "release": release}  # nobody could even be asked what was there
    before = share_of(result["before"], {}, own)
    after = share_of(result.get("after") or result["before"], {} if dry else result.get("served") or {}, own)
    return {
        **told,
        "release": release,
        "before": release_at(before),
        **standing(after),
        "actions": [f"turned it {_at(after)}"] if result.get("changed") else [],
        "took": number(result, "call_took") + number(result, "effective_after"),
    }


def _at(share: Optional[float]) -> str:
    return OFF if share == 0 else ON if share is None or share == 100 else f"on for {said_share(share)}"


def standing(share: Optional[float]) -> Dict[str, object]:
    """Where a place is by its share: `canary` and `active` are empty where nobody is served the on side."""
    current = release_at(share)
    return {
        "current": current,
        "known_good": OFF if current == ON else None,
        "share": share,
        "canary": ON if current == OFF and share else "",
        # what a rollback would take back
        "active": "" if share == 0 else ON,
    }


def facts(result: Mapping[str, Any], own: Mapping[str, object]) -> Dict[str, object]:
    """What module `feature_flag_info` told, in the words of every info module."""
    state, served = result["state"], result["served"]
    share = share_of(state, served, own)
    releases = [Release(ON, complete=True), Release(OFF, complete=True, known_good=Good(0.0))]
    seen = Situation(release_at(share), tuple(releases))
    return {**plan.facts(seen), **standing(share), "served": served, "pending": state.get("pending") or ""}
