# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flipt, version 1: a flag is replaced as a whole, its rollouts one by one.

After the published contract: Flipt OpenAPI 1.47, getFlag, updateFlag (what is not sent is emptied), listRollouts,
createRollout, updateRollout, and evaluateBoolean.

| off means | serves | verified by | tried against |
|---|---|---|---|
| `enabled: false`, and thresholds at 0 % [1] | false; a variant flag: nothing | evaluation API | published contract |

[1] Of a boolean flag, `enabled` is merely the default. Segments that are still served true are told, not changed.
"""

from __future__ import annotations

from typing import Dict, List, Mapping

from .._errors import OptionError
from .client import Answer, Http, refused, segment, unknown
from .flipt_evaluation import LOCAL, Evaluation, bearer
from .flipt_rules import Rules, Threshold, for_wish, read
from .model import Change, Deadline, FlagError, Options, Provider, Served, State, Where, Wish
from .vendors import Sides, itself, mapping, mappings, texts

_KEPT = ("name", "description", "metadata")  # of a flag, when it is replaced


def build(options: Options, deadline: Deadline) -> Provider:
    return Flipt(Sides(options, deadline))


class Flipt:
    """`where.project` is the namespace (`default` when nobody says); there are no environments."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides

    @property
    def _http(self) -> Http:
        return self._sides.management(LOCAL, bearer, needed=False)

    def state(self, where: Where) -> State:
        flag = self._http.get(_path(where))
        if flag.status == 404:
            raise self._not_there(where)
        found = itself(_taken(flag, f"reading {where}").fields, "key", where)
        rollouts: object = []
        if found.get("type") == "BOOLEAN_FLAG_TYPE":
            rollouts = _taken(self._http.get(f"{_path(where)}/rollouts"), f"reading {where}").fields.get("rules")
        rules = read(found, rollouts)
        raw = {"flag": found, "rollouts": mappings(rollouts)}
        return State(on=rules.on, percentage=rules.percentage, raw=raw)

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        return for_wish(where, wish, _rules(state)) != _rules(state)

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        now, new = _rules(state), for_wish(where, wish, _rules(state))
        if new.enabled != now.enabled:
            body = _whole(where, mapping(state.raw["flag"]), new.enabled)
            _taken(self._http.ask("PUT", _path(where), body), f"turning {where} {wish.state}")
        for one in new.thresholds:
            if one not in now.thresholds:
                self._share(where, mappings(state.raw["rollouts"]), one)
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        return Evaluation(self._sides, _namespace(where)).served(where, wish, lambda: _rules(self.state(where)))

    def close(self) -> None:
        self._sides.close()

    def _share(self, where: Where, rollouts: List[Mapping[str, object]], one: Threshold) -> None:
        body: Dict[str, object] = {"threshold": {"percentage": one.percentage, "value": one.value}}
        if one.place < 0:
            body["rank"] = len(rollouts) + 1
            answer = self._http.ask("POST", f"{_path(where)}/rollouts", body)
        else:
            old = rollouts[one.place]
            body["description"] = old.get("description", "")
            answer = self._http.ask("PUT", f"{_path(where)}/rollouts/{segment(str(old.get('id')))}", body)
        _taken(answer, f"setting the share of {where}")

    def _not_there(self, where: Where) -> FlagError:
        namespace = _namespace(where)
        flags = self._http.get(f"/api/v1/namespaces/{segment(namespace)}/flags", {"limit": "100"})
        names = texts(flags.fields.get("flags"), "key") if flags.ok else []
        if not names:
            found = self._http.get("/api/v1/namespaces", {"limit": "100"})
            known = texts(found.fields.get("namespaces"), "key") if found.ok else []
            if known and namespace not in known:
                return unknown("project", namespace, known, "Flipt's namespaces")
        return unknown("flag", where.flag, names, f"namespace {namespace!r}")


def _namespace(where: Where) -> str:
    if where.environment:
        raise OptionError(
            "Flipt's version 1 has no environments",
            mend="Leave environment empty, and name the namespace as project; for version 2 use type flipt_v2",
        )
    return where.project or "default"


def _path(where: Where) -> str:
    return f"/api/v1/namespaces/{segment(_namespace(where))}/flags/{segment(where.flag)}"


def _rules(state: State) -> Rules:
    return read(mapping(state.raw["flag"]), state.raw["rollouts"])


def _whole(where: Where, flag: Mapping[str, object], enabled: bool) -> Dict[str, object]:
    """The flag as updateFlag takes it: what is left out there would be emptied."""
    body: Dict[str, object] = {"key": where.flag, "enabled": enabled}
    body.update({name: flag[name] for name in _KEPT if flag.get(name) is not None})
    default = mapping(flag.get("defaultVariant")).get("id")
    return {**body, "defaultVariantId": default} if default else body


def _taken(answer: Answer, what: str) -> Answer:
    if not answer.ok:
        hints = {501: "its storage is read-only: the flag is changed where Flipt reads it from"}
        raise refused(answer, what, hints)
    return answer
