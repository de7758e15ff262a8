# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pin what each place goes back to, before anybody acts. See plugins/modules/rollback_plan.py for the documentation."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Release, release_id
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Situation as Place
from ansible_collections.selfheal.delivery.plugins.module_utils._act.plan import known_goods
from ansible_collections.selfheal.delivery.plugins.module_utils._act.steps import walk
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import last_known_good, rolled_back
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.story import named
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    SERVICE,
    ControllerAction,
    Facts,
    places_of,
    plain,
)
from ansible_collections.selfheal.delivery.plugins.plugin_utils._whole import (
    refuse_forgotten,
    refuse_keywords,
    refuse_missing,
)


@dataclass(frozen=True)
class Ways:
    """What becomes of each place. `before` is where it goes back to, in the words of a rollout's intent.

    `left` run the accused release and have nowhere to go, `elsewhere` run another one and are left alone, and the
    `unread` could not be asked: they are tried all the same, with what the others go back to.
    """

    before: Mapping[str, str]
    left: Tuple[str, ...]
    elsewhere: Tuple[str, ...]
    unread: Tuple[str, ...]
    blocked: Tuple[str, ...]

    @property
    def target(self) -> str:
        """Where most places go back to, or ''."""
        return Counter(self.before.values()).most_common(1)[0][0] if self.before else ""


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **SERVICE,
        **LEDGER,
        "group": {"type": "str", "required": True},
        "release": {"type": "str", "default": ""},
        "why": {"type": "str", "required": True},
        "batches": {"type": "list", "elements": "raw", "default": ["100%"]},
        "forget": {"type": "list", "elements": "str", "default": []},
        "states": {"type": "dict", "required": True},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        if options["release"]:
            release_id(options["release"])
        if not options["why"].strip():
            raise OptionError("nobody says why", mend="Set rollback_reason: it is kept in the ledger")
        places = places_of(options["group"], task_vars)
        refuse_keywords(self._task.get_play())
        refuse_missing(places, task_vars)
        refuse_forgotten(options, places)
        told = {place: plain(options["states"].get(place) or {}) for place in places}
        states = {place: _place(state) for place, state in told.items()}
        refuse_silence(told, states)
        if options["release"]:
            refuse_unknown(options["release"], told)
        with closing(ledger_from(options)) as ledger:
            known = last_known_good(ledger, options["service"])
            bad = rolled_back(ledger, options["service"])
        accused = options["release"] or _accused(states, known.release if known else "")
        ways = ways_back(states, accused, bad)
        return {"changed": False, **_planned(options, places, states, accused, ways)}


def ways_back(states: Mapping[str, Optional[Place]], accused: str, bad: Sequence[str]) -> Ways:
    """Pin for each place the newest known good release that is neither the accused one nor bad, by place or ledger."""
    before: Dict[str, str] = {}
    left, elsewhere, unread, blocked = [], [], [], []
    for place, seen in states.items():
        if seen is None:
            unread.append(place)
        elif seen.current != accused:
            elsewhere.append(place)
        else:
            target = next((one.id for one in known_goods(seen) if one.id not in (accused, *bad)), "")
            current = seen.find(accused)
            blocked += [place] if current is not None and current.blocked else []
            if target:
                before[place] = target
            else:
                left.append(place)
    ways = Ways(before, tuple(left), tuple(elsewhere), tuple(unread), tuple(blocked))
    tried = {place: before.get(place) or ways.target for place in states if place in before or place in unread}
    return Ways(tried if ways.target else {}, ways.left, ways.elsewhere, ways.unread, ways.blocked)


def refuse_silence(told: Mapping[str, Mapping[str, Any]], states: Mapping[str, Optional[Place]]) -> None:
    """Where nobody answers it is not known what runs, which is another thing than that nothing runs."""
    if any(seen is not None for seen in states.values()):
        return
    place, state = next(iter(told.items()))
    why = str(state.get("msg") or "it gave no answer").strip().rstrip(".")
    raise PlaceError(
        f"{named(list(told))} could not be asked what runs there: {why}",
        mend=f"Nothing was changed. Bring {place} back, or see for yourself what is served",
    )


def refuse_unknown(release: str, told: Mapping[str, Mapping[str, Any]]) -> None:
    """A flag's releases are known beforehand, so that another one is no release that runs nowhere."""
    if any("active" in state for state in told.values()):
        from ansible_collections.selfheal.delivery.plugins.module_utils._act.flag.options import checked_release

        checked_release(release)


def _place(state: Mapping[str, Any]) -> Optional[Place]:
    """A place as release_info told it; None when it could not be asked."""
    if not state or state.get("failed") or state.get("unreachable") or "releases" not in state:
        return None
    releases = tuple(Release.from_dict(one) for one in state.get("releases") or () if isinstance(one, Mapping))
    # of a flag what some are served already, and nothing of one that is off
    current = state.get("active", state.get("current"))
    return Place(str(current) if current else None, releases)


def _accused(states: Mapping[str, Optional[Place]], newest: str) -> str:
    """What runs now: everywhere the same, or the one that passed last."""
    running = sorted({seen.current for seen in states.values() if seen is not None and seen.current})
    if len(running) < 2:
        return running[0] if running else ""
    if newest in running:
        return newest
    raise OptionError(
        f"the places run {named(running)}, so it cannot be told which is meant", mend="Name it in rollback_release"
    )


def _planned(
    options: Facts, places: Sequence[str], states: Mapping[str, Optional[Place]], accused: str, ways: Ways
) -> Facts:
    goes = [place for place in places if place in ways.before]
    batches = [list(step.places) for step in walk(options["batches"], goes, holdback=0).steps] if goes else []
    blocked = f"{accused} says so itself, on {named(ways.blocked)}" if ways.blocked else ""
    found = [seen.find(accused) for seen in states.values() if seen is not None and seen.current == accused]
    intent = {
        "fleet": list(places),
        "before": dict(ways.before),
        "batches": batches,
        "left": list(ways.left),
        "elsewhere": list(ways.elsewhere),
        "bad": accused,
        "to": ways.target,
        "why": options["why"],
    }
    return {
        "release": accused,
        "known_good": ways.target,
        "blocked": blocked,
        "changed_at": max((one.deployed_at for one in found if one is not None and one.deployed_at), default=None),
        "due": bool(goes or ways.left) and bool(accused),
        "intent": intent,
        "msg": _text(accused, ways, batches, blocked),
    }


def _text(accused: str, ways: Ways, batches: Sequence[Sequence[str]], blocked: str) -> str:
    if not accused:
        return "nothing runs anywhere, so there is nothing to roll back"
    parts: List[str] = []
    if ways.before:
        parts.append(f"{accused} goes back to {ways.target} on {'; '.join(named(batch) for batch in batches)}")
    elif not ways.left:
        parts.append(f"{accused} runs nowhere: nothing to do")
    if ways.left:
        parts.append(
            f"{named(ways.left)} {'has' if len(ways.left) == 1 else 'have'} no known good release to go back to"
        )
    if ways.elsewhere and ways.before:
        runs = "runs another release and is" if len(ways.elsewhere) == 1 else "run other releases and are"
        parts.append(f"{named(ways.elsewhere)} {runs} left alone")
    if ways.unread:
        parts.append(f"{named(ways.unread)} could not be asked")
    return "; ".join([*parts, *([f"rollback is blocked: {blocked}"] if blocked else [])])
