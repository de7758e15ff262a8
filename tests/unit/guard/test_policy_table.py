# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of denial × action, cell by cell: the page says it, the code says it, and decisions are so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, FrozenSet, List, Mapping, Tuple

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import decision as say
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.checks import (
    APPROVED,
    CHECKS,
    PERSON,
    PIPELINE,
    SYSTEM,
    Case,
    View,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ACTIONS,
    ALLOWED,
    FLAG_OFF,
    RERUN,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.limits import GuardPolicy
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import (
    UNMEASURED,
    Condition,
    Fleet,
    Memory,
    Pause,
    Recommendation,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import TABLE, decide, parse_guard

PAGE = Path(__file__).parents[3] / "docs/guard.md"
BEGIN, END = "-->\n|", "<!-- end of table -->"
LETTERS = {SYSTEM: "S", PIPELINE: "C", PERSON: "P", APPROVED: "A"}
NOW = 1_800_000_000.0
POLICY: Mapping[str, object] = {"mode": "act", "alerts": ["High"]}


def table_of_the_code() -> str:
    """The page's table. Run this file as a script to write it there anew."""
    lines = [f"| | {' | '.join(f'`{action}`' for action in ACTIONS)} |", "|---" * (len(ACTIONS) + 1) + "|"]
    for reason in say.REASONS:
        cells = []
        for action in ACTIONS:
            who = [letter for caller, letter in LETTERS.items() if action in TABLE[caller][reason]]
            cells.append(" ".join(who) or "–")
        lines.append(f"| `{reason}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def table_of_the_page() -> str:
    text = PAGE.read_text(encoding="utf-8")
    start = text.index(BEGIN, text.index("<!-- table:")) + len(BEGIN) - 1
    return text[start : text.index(END)]


def cells_of_the_page() -> Dict[Tuple[str, str], FrozenSet[str]]:
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table_of_the_page().splitlines()
    ]
    head, cells = rows[0][1:], {}
    for row in rows[2:]:
        for action, cell in zip(head, row[1:], strict=True):
            cells[row[0], action] = frozenset(cell.replace("–", "").split())
    return cells


@dataclass(frozen=True)
class World:
    """Everything that a decision is made from; nothing stands against it yet."""

    policy: Mapping[str, object]
    request: Request
    view: View

    def decide(self) -> say.Decision:
        return decide(parse_guard(self.policy, "shop"), self.request, self.view, NOW)


def fine(action: str, caller: str) -> World:
    kind = {SYSTEM: say.ALERT, APPROVED: say.ALERT}.get(caller, caller)
    situation = Situation(confirmed=True, current="2.0", known_good="1.9", places=4, services=20)
    request = Request("d1", "shop", action, Trigger(kind, "High", "t1", NOW - 100), "x", situation)
    memory = Memory(changed_from=NOW - 900, changed_at=NOW - 600)
    if caller == APPROVED:
        recommended = Recommendation(action, "2.0", "1.9", NOW + 60, "alert:High", approved_by="ada")
        memory = replace(memory, recommendations={"d0": recommended})
        request = replace(request, approved="d0")
    return World(POLICY, request, View(memory, Fleet()))


def with_memory(world: World, **changes: object) -> World:
    return replace(world, view=replace(world.view, memory=replace(world.view.memory, **changes)))  # type: ignore[arg-type]


def with_view(world: World, **changes: object) -> World:
    return replace(world, view=replace(world.view, **changes))  # type: ignore[arg-type]


def with_situation(world: World, **changes: object) -> World:
    situation = replace(world.request.situation, **changes)  # type: ignore[arg-type]
    return replace(world, request=replace(world.request, situation=situation))


def with_policy(world: World, **changes: object) -> World:
    return replace(world, policy={**world.policy, **changes})


def not_eligible(world: World) -> World:
    if world.request.approved:
        return replace(world, request=replace(world.request, approved="d9"))
    return with_policy(world, alerts=["Other"])


def not_rearmed(world: World) -> World:
    acted_on = Condition(NOW - 300, NOW - 290, ((NOW - 300, UNMEASURED),), ("t0",))
    return with_memory(world, conditions={"alert:High": acted_on})


def rate_limited(world: World) -> World:
    return with_memory(world, actions=(NOW - 50000, NOW - 40000, NOW - 30000))


def in_progress(world: World) -> World:
    return with_view(world, unfinished=Rollout("r1", "shop", "2.0", "canary", "open", 7, NOW - 9, NOW - 9, by="bob"))


def blast_radius(world: World) -> World:
    acted = {"bank": NOW - 1000, "mail": NOW - 900, "crm": NOW - 800}
    return with_view(with_situation(world, places=0), fleet=Fleet(acted=acted))


STANDS_AGAINST: Mapping[str, Callable[[World], World]] = {
    say.NOT_ELIGIBLE: not_eligible,
    say.NOT_CONFIRMED: lambda world: with_situation(world, confirmed=False),
    say.NOT_HELD: lambda world: with_policy(world, hold_for="1m"),
    say.NOT_REARMED: not_rearmed,
    say.COOLDOWN: lambda world: with_memory(world, acted_at=NOW - 10),
    say.RATE_LIMITED: rate_limited,
    say.BREAKER_OPEN: lambda world: with_memory(world, failures=1, failed_at=NOW - 60),
    say.PAUSED: lambda world: with_memory(world, pause=Pause("ada", NOW - 5, "a drill")),
    say.IN_PROGRESS: in_progress,
    say.BLAST_RADIUS: blast_radius,
    say.FROZEN: lambda world: with_policy(world, freeze=[{"from": "00:00"}]),
    say.DUPLICATE: lambda world: with_view(world, seen=ALLOWED),
    say.NO_KNOWN_GOOD: lambda world: with_situation(world, known_good=""),
    say.ROLLBACK_BLOCKED: lambda world: with_situation(world, blocked="it migrates"),
    say.NOT_ATTRIBUTABLE: lambda world: with_memory(world, changed_at=NOW - 86400, changed_from=NOW - 86500),
    say.ALERTS_SILENT: lambda world: with_policy(world, watchdog="10m"),
    say.CLOCK_JUMPED: lambda world: with_view(world, drift=600.0),
}


def matching(world: World) -> World:
    """What was approved is what is there: only then does nothing else stand against it."""
    known = world.view.memory.recommendations.get("d0")
    if known is None:
        return world
    situation = world.request.situation
    kept = replace(known, release=situation.current, target=situation.known_good)
    return with_memory(world, recommendations={"d0": kept})


def test_the_page_shows_the_table_of_the_code() -> None:
    assert table_of_the_page() == table_of_the_code()


def test_every_reason_has_its_way_to_hold() -> None:
    # the ledger's own store is the caller's to notice: there is no view to decide from
    assert {*STANDS_AGAINST, say.STORE_UNAVAILABLE} == set(say.REASONS)
    assert {reason for reason, _check in CHECKS} == set(STANDS_AGAINST)
    everything = frozenset(ACTIONS) - {say.UNDO}
    assert all(denies[say.STORE_UNAVAILABLE] == everything for denies in TABLE.values())


@pytest.mark.parametrize("caller", LETTERS)
@pytest.mark.parametrize("action", ACTIONS)
def test_with_nothing_against_it_it_is_allowed(action: str, caller: str) -> None:
    decision = fine(action, caller).decide()
    if (action, caller) == (say.FLAG_ON, SYSTEM):
        assert (decision.verdict, decision.reason, decision.page) == (say.DENIED, say.NOT_ELIGIBLE, False)
        return
    assert (decision.verdict, decision.reason, decision.page) == (ALLOWED, "", False)


@pytest.mark.parametrize("caller", LETTERS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("reason", STANDS_AGAINST)
def test_cell(reason: str, action: str, caller: str) -> None:
    world = matching(STANDS_AGAINST[reason](fine(action, caller)))
    decision = world.decide()
    if (action, caller) == (say.FLAG_ON, SYSTEM):  # a person's decision, whatever else stands against it
        assert decision.verdict == say.DENIED and decision.reason in (reason, say.NOT_ELIGIBLE)
    elif LETTERS[caller] in cells_of_the_page()[reason, action]:
        verdict = say.RECOMMENDED if reason == say.NOT_ATTRIBUTABLE else say.DENIED
        assert (decision.verdict, decision.reason) == (verdict, reason)
        assert decision.message
    else:
        assert (decision.verdict, decision.reason) == (ALLOWED, "")


@pytest.mark.parametrize("reason", STANDS_AGAINST)
def test_only_this_reason_holds_there(reason: str) -> None:
    """So that each cell is about its own reason: of all checks only one speaks, whatever the order."""
    world = STANDS_AGAINST[reason](fine(say.ROLLBACK, SYSTEM))
    case = Case(parse_guard(world.policy, "shop"), world.request, world.view, NOW)
    assert [name for name, check in CHECKS if check(case) is not None] == [reason]


@pytest.mark.parametrize("caller", LETTERS)
def test_nothing_stands_against_an_undo_not_even_everything_at_once(caller: str) -> None:
    world = fine(say.UNDO, caller)
    for hinder in STANDS_AGAINST.values():
        world = hinder(world)
    assert world.decide().allowed


@pytest.mark.parametrize("action", [FLAG_OFF, RERUN])
def test_a_flag_or_a_job_has_no_places(action: str) -> None:
    assert with_situation(fine(action, SYSTEM), places=0).decide().allowed


def test_the_page_names_every_option_with_its_default() -> None:
    rows: List[List[str]] = []
    for line in PAGE.read_text(encoding="utf-8").split("## Options")[1].split("\n## ")[0].splitlines():
        if line.startswith("| `"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    told = {row[0].strip("`"): row[1].split(" ")[0].strip("`") for row in rows}
    usual = GuardPolicy("shop")
    expected = {}
    for key, value in vars(usual).items():
        if key in ("service", "version", "plain"):
            continue
        name = key.replace("breaker_", "breaker.").replace("clock_", "clock.")
        text = f"{value:g}" if isinstance(value, float) else str(value)
        expected[name] = {"None": "–", "()": "[]", "frozenset()": "[]"}.get(text, text)
    assert told == expected


def test_the_page_tells_the_order_of_the_reasons() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"in this order: {', '.join(reason for reason, _check in CHECKS)}." in text


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    start = page.index("-->\n", page.index("<!-- table:")) + 4
    PAGE.write_text(page[:start] + table_of_the_code() + page[page.index(END) :], encoding="utf-8")
