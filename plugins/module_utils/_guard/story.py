# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a rollout ended, in one message that the one on call can act on. Pure; given plain facts, never secrets."""

from __future__ import annotations

import time
from typing import Any, List, Mapping, Optional, Sequence

from .decision import ROLLBACK
from .model import DONE, HELD, UNRESOLVED, Rollout

Facts = Mapping[str, Any]
SHOWN = 5
BY_ITSELF = "Bring it back; playbooks/reconcile.yml, or the next run, settles it first."
BY_A_PERSON = "It is not tried again by itself: with playbooks/control.yml, resume tries once more and abort leaves it."


def story(rollout: Rollout) -> str:
    """What happened, why, and where the service is now."""
    tell = {DONE: _done, HELD: _held}.get(rollout.state, _undone)
    if rollout.outcome.get("given_up"):
        tell = _given_up
    elif rollout.kind == ROLLBACK:
        tell = _undone
    elif rollout.kind == "action":
        tell = _acted
    return f"{rollout.service}: {tell(rollout)}"


def _given_up(rollout: Rollout) -> str:
    what = (
        f"rollback {rollout.id} of {rollout.release}"
        if rollout.kind == ROLLBACK
        else f"{_action(rollout)} {rollout.id}"
    )
    stuck = _listed(rollout.outcome, "unresolved")
    still = f" {named(stuck)} may still run {rollout.release}." if stuck else ""
    return f"{what} is closed as it is: {_why(rollout.outcome)}.{still} See for yourself what runs there."


def _acted(rollout: Rollout) -> str:
    """Of an action that no run told of, because the one that had to is gone."""
    flag, verified = rollout.outcome.get("flag"), rollout.outcome.get("verified")
    said = str(flag["msg"]).rstrip(".") if isinstance(flag, Mapping) and flag.get("msg") else ""
    ended = said or ("it was done" if rollout.state == DONE else "it could not be done")
    verdict = verified.get("verdict") if isinstance(verified, Mapping) else ""
    gates = f" Its gates: {str(verdict).replace('_', ' ')}." if verdict else ""
    return (
        f"{_action(rollout)} {rollout.id}, {_why(rollout.outcome)}: {ended}.{gates} "
        "Its controller was gone before it could tell, or go on: see for yourself what clients get."
    )


def _action(rollout: Rollout) -> str:
    return str(rollout.intent.get("action") or "action").replace("_", " ")


def _done(rollout: Rollout) -> str:
    places = rollout.outcome.get("places")
    shown = named([str(place) for place in places]) if isinstance(places, list) else "every place"
    return f"{rollout.release} {_passed(rollout.outcome)}. It is known good on {shown}."


def _passed(outcome: Facts) -> str:
    bake = outcome.get("bake")
    if isinstance(bake, Mapping) and bake.get("reason") == "promoted":
        return f"was {str(bake.get('msg')).rstrip('.')}, without the verdict of its gates"
    shown = figures(outcome)
    return f"passed its bake ({shown})" if shown else "passed its bake"


def _held(rollout: Rollout) -> str:
    until = rollout.outcome.get("hold_until")
    by = time.strftime("%H:%M:%S UTC", time.gmtime(until)) if isinstance(until, (int, float)) else "its deadline"
    return (
        f"{rollout.release} is held where it is: {_why(rollout.outcome)}. It is undone at {by} unless somebody "
        "resumes, promotes or aborts it with playbooks/control.yml."
    )


def _undone(rollout: Rollout) -> str:
    left = _listed(rollout.outcome, "left")
    how = "was rolled back" if rollout.kind == ROLLBACK else "was taken back"
    parts = [f"{rollout.release} {'failed' if left else how}: {_why(rollout.outcome)}."]
    places = rollout.outcome.get("places")
    results = places if isinstance(places, Mapping) else {}
    stuck = _listed(rollout.outcome, "unresolved")
    back = [place for place in went_back(results, rollout) if place not in stuck]
    if back:
        targets = sorted({str(results[place].get("current")) for place in back})
        parts.append(f"{named(back)} {'is' if len(back) == 1 else 'are'} back on {', '.join(targets)}.")
    elif not stuck and not left:
        parts.append("No place had to be changed back.")
    if left:
        parts.append(
            f"{named(left)} stayed as they are: no known good release is there to go back to. "
            f"Release a mended one{'' if rollout.kind == ROLLBACK else ', with canary_first_release'}."
        )
    alone = [place for place in _pinned(rollout) if place not in (*back, *stuck)]
    if alone:
        others = ", ".join(sorted({str((results.get(place) or {}).get("current")) for place in alone}))
        parts.append(f"{named(alone)} had {others} by then, and {'was' if len(alone) == 1 else 'were'} left alone.")
    verified = rollout.outcome.get("verified")
    if back and isinstance(verified, Mapping) and verified.get("verdict"):
        reason = f" ({verified['reason']})" if verified.get("reason") else ""
        parts.append(f"Its gates there: {str(verified['verdict']).replace('_', ' ')}{reason}.")
    if rollout.state == UNRESOLVED:
        parts.append(
            f"{named(stuck)} could NOT go back and may still run {rollout.release}: {_stuck_why(results, stuck)}. "
            f"{BY_A_PERSON if rollout.kind == ROLLBACK else BY_ITSELF}"
        )
    return " ".join(parts)


def went_back(results: Facts, rollout: Optional[Rollout]) -> List[str]:
    """The places that are back, from what the way back gave by place: changed now, or where a rollback has pinned."""
    pinned = _pinned(rollout) if rollout is not None else {}
    told = {str(place): one for place, one in results.items() if one and not one.get("failed")}
    return [p for p, one in told.items() if one.get("changed") or (p in pinned and one.get("current") == pinned[p])]


def back_on(outcome: Facts) -> List[str]:
    """The releases of the places that were changed back, by an outcome that may come from anywhere."""
    places = outcome.get("places")
    results = places.values() if isinstance(places, Mapping) else ()
    return sorted(
        {
            str(one["current"])
            for one in results
            if isinstance(one, Mapping) and one.get("changed") and not one.get("failed") and one.get("current")
        }
    )


def _pinned(rollout: Rollout) -> Facts:
    """Where each place of a rollback was to go."""
    before = rollout.intent.get("before") if rollout.kind == ROLLBACK else None
    return before if isinstance(before, Mapping) else {}


def _listed(outcome: Facts, name: str) -> List[str]:
    places = outcome.get(name)
    return [str(place) for place in places] if isinstance(places, list) else []


def _why(outcome: Facts) -> str:
    deployed = outcome.get("deployed")
    if isinstance(deployed, Mapping):
        broken = [str(place) for place, one in deployed.items() if one.get("failed") or one.get("unreachable")]
        if broken:
            first = str(deployed[broken[0]].get("msg") or "it became unreachable").strip().rstrip(".")
            return f"it could not be released to {named(broken)}: {first}"
    bake = outcome.get("bake")
    if isinstance(bake, Mapping) and bake.get("msg"):
        shown = figures(outcome)
        return f"{str(bake['msg']).rstrip('.')}{f' ({shown})' if shown else ''}"
    return str(outcome.get("why") or "the rollout did not finish").rstrip(".")


def figures(outcome: Facts) -> str:
    """The deciding gate's figures, or every gate's when none decided alone."""
    bake = outcome.get("bake")
    if not isinstance(bake, Mapping):
        return ""
    gates = [gate for gate in bake.get("gates") or () if isinstance(gate, Mapping) and gate.get("samples")]
    decided = [gate for gate in gates if gate.get("gate") == bake.get("gate")]
    shown = [_figure(gate) for gate in decided or gates if gate.get("gate") not in ("alive", "share")]
    return "; ".join(one for one in shown if one)


def _figure(gate: Facts) -> Optional[str]:
    value, samples = gate.get("value"), gate.get("samples") or {}
    if not isinstance(value, (int, float)):
        return None
    rate = "bad" in samples
    parts = [f"{gate['gate']}: canary {_shown(value, rate)}"]
    if isinstance(gate.get("baseline"), (int, float)):
        parts.append(f"against {_shown(gate['baseline'], rate)}")
    if isinstance(gate.get("limit"), (int, float)):
        parts.append(f"limit {_shown(gate['limit'], rate)}")
    if rate:
        parts.append(f"{samples['bad']:.0f} bad of {samples.get('canary') or 0:.0f} requests")
    return ", ".join(parts)


def _shown(value: float, rate: bool) -> str:
    return f"{value:.2%}" if rate else f"{value:.4g}"


def _stuck_why(results: Facts, stuck: Sequence[str]) -> str:
    reasons: List[str] = []
    for place in stuck:
        one = results.get(place) or {}
        untried = "it was not tried, because a batch before it failed" if one.get("skipped") else ""
        reason = str(one.get("msg") or untried or "it was lost during the rollout").rstrip(".")
        if reason not in reasons:
            reasons.append(reason)
    return "; ".join(reasons[:SHOWN])


def named(places: Sequence[str]) -> str:
    """A few places by name, many by number."""
    shown = ", ".join(places[:SHOWN])
    return f"{shown} and {len(places) - SHOWN} more" if len(places) > SHOWN else shown
