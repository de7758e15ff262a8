# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flipt, version 2: a flag is one resource of an environment, replaced as a whole and pinned to its revision.

After the published contract: Flipt OpenAPI 2.9 (EnvironmentsService), getResource, updateResource, listResources,
listNamespaces and listEnvironments; the evaluation API takes an environmentKey.

| off means | serves | verified by | tried against |
|---|---|---|---|
| `enabled: false`, and thresholds at 0 % [1] | false; a variant flag: nothing | evaluation API | published contract |

[1] Of a boolean flag, `enabled` is merely the default. Segments that are still served true are told, not changed.
"""

from __future__ import annotations

from typing import Dict, List, Mapping

from .._errors import OptionError
from .client import Http, refused, segment, unknown
from .flipt_evaluation import LOCAL, Evaluation, bearer
from .flipt_rules import Rules, for_wish, read
from .model import Change, Deadline, FlagError, Options, Provider, Served, State, Where, Wish
from .vendors import Sides, itself, mapping, mappings, texts

_KIND = "flipt.core.Flag"
_ROOT = "/api/v2/environments"


def build(options: Options, deadline: Deadline) -> Provider:
    return FliptV2(Sides(options, deadline))


class FliptV2:
    """`where.project` is the namespace (`default` when nobody says); an environment is named, unless there is one."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._only = ""

    @property
    def _http(self) -> Http:
        return self._sides.management(LOCAL, bearer, needed=False)

    def state(self, where: Where) -> State:
        answer = self._http.get(f"{self._resources(where)}/{_KIND}/{segment(where.flag)}")
        if answer.status == 404:
            raise self._not_there(where)
        if not answer.ok:
            raise refused(answer, f"reading {where}")
        flag = mapping(itself(mapping(answer.fields.get("resource")), "key", where).get("payload"))
        rules = read(flag, flag.get("rollouts"))
        revision = str(answer.fields.get("revision", ""))
        return State(on=rules.on, percentage=rules.percentage, revision=revision, raw={"flag": flag})

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        return for_wish(where, wish, _rules(state)) != _rules(state)

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        flag = mapping(state.raw["flag"])
        new = for_wish(where, wish, _rules(state))
        payload: Dict[str, object] = {**flag, "@type": _KIND, "key": where.flag, "enabled": new.enabled}
        if new.thresholds:
            payload["rollouts"] = _rollouts(mappings(flag.get("rollouts")), new)
        body = {"key": where.flag, "payload": payload, "revision": state.revision}
        answer = self._http.ask("PUT", self._resources(where), body)
        if not answer.ok:
            raise refused(answer, f"turning {where} {wish.state}")
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        evaluation = Evaluation(self._sides, _namespace(where), self._environment(where))
        return evaluation.served(where, wish, lambda: _rules(self.state(where)))

    def close(self) -> None:
        self._sides.close()

    def _resources(self, where: Where) -> str:
        return f"{_ROOT}/{segment(self._environment(where))}/namespaces/{segment(_namespace(where))}/resources"

    def _environment(self, where: Where) -> str:
        if where.environment or self._only:
            return where.environment or self._only
        names = self._environments()
        if len(names) != 1:
            raise OptionError(
                f"{where} is in {len(names)} environments, and none is named",
                mend=f"Set environment to one of {', '.join(names)}",
            )
        self._only = names[0]
        return self._only

    def _environments(self) -> List[str]:
        answer = self._http.get(_ROOT)
        if not answer.ok:
            raise refused(answer, "looking for the environments")
        return texts(answer.fields.get("environments"), "key")

    def _not_there(self, where: Where) -> FlagError:
        environment, namespace = self._environment(where), _namespace(where)
        flags = self._http.get(f"{self._resources(where)}/{_KIND}")
        names = texts(flags.fields.get("resources"), "key") if flags.ok else []
        if not names:
            known = self._environments()
            if environment not in known:
                return unknown("environment", environment, known)
            found = self._http.get(f"{_ROOT}/{segment(environment)}/namespaces")
            spaces = texts(found.fields.get("items"), "key") if found.ok else []
            if spaces and namespace not in spaces:
                return unknown("project", namespace, spaces, "Flipt's namespaces")
        return unknown("flag", where.flag, names, f"namespace {namespace!r} of {environment}")


def _namespace(where: Where) -> str:
    return where.project or "default"


def _rules(state: State) -> Rules:
    return read(mapping(state.raw["flag"]), mapping(state.raw["flag"]).get("rollouts"))


def _rollouts(old: List[Mapping[str, object]], new: Rules) -> List[Mapping[str, object]]:
    """The flag's rollouts with the new shares in their places, a new one behind them."""
    rollouts = list(old)
    for one in new.thresholds:
        share = {"percentage": one.percentage, "value": one.value}
        if one.place < 0:
            rollouts.append({"type": "THRESHOLD_ROLLOUT_TYPE", "threshold": share})
        else:
            rollouts[one.place] = {**rollouts[one.place], "threshold": share}
    return rollouts
