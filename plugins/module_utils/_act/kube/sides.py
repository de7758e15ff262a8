# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two sides of a blue-green place, and the Services that send requests to the one or to the other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..._errors import OptionError, nearest
from .. import plan
from ..model import Situation
from .beside import Beside, side_facts
from .marks import journal_of, name_of, notes_of, pending_of
from .names import PREFIX, TRACK, path_of
from .revisions import View
from .sibling import CANARY, GREEN, Apart, is_sibling, pod_labels, release_named, selecting, sibling_name
from .workload_steps import Steps

Object = Mapping[str, Any]

# on a Service: which workload's green side it sends requests to, and the label that it asked for before, as JSON
SWITCHED = PREFIX + "switched"
# on the green Deployment: until when (epoch seconds) the blue one is kept as it was
KEEP_UNTIL = PREFIX + "keep-until"


class Sides(Beside):
    """`found` is green, the stable Deployment is blue."""

    def look(self) -> None:
        """See both sides and the Services anew."""
        self.view = self.steps.look()
        self.find(strict=False)
        self._services = self.services()

    @property
    def switched(self) -> List[Object]:
        """The Services that send requests to green."""
        return [each for each in self._services.values() if _record(each).get("of") == self.target.name]

    @property
    def live(self) -> bool:
        return self.found is not None and bool(self.switched)

    @property
    def current(self) -> Optional[str]:
        return release_named(self.found) if self.found and self.live else self.view.situation.current

    @property
    def before(self) -> Optional[str]:
        """What ran before the current release."""
        journal = journal_of(self.found) if self.found and self.live else None
        return journal.before if journal else self.view.situation.previous

    @property
    def known_good(self) -> Optional[str]:
        return plan.known_good(replace(self.view.situation, current=self.current))

    @property
    def promoted(self) -> bool:
        release = pending_of(self.found or {})
        return release is not None and release.known_good is not None

    @property
    def keep_until(self) -> float:
        """Epoch seconds; 0 while nobody was sent to green."""
        told = notes_of(self.found or {}).get(KEEP_UNTIL, "")
        return float(told) if told.replace(".", "", 1).isdecimal() else 0.0

    def switchable(self, only: str) -> List[Object]:
        """The Services to switch, each as it asks for blue; OptionError when there are none."""
        as_blue = {name_of(each): _as_blue(each) for each in self._services.values()}
        mine = {name_of(each): each for each in selecting(as_blue.values(), pod_labels(self.stable))}
        if not mine:
            raise OptionError(
                f"no Service selects the pods of {self.target}, so there is nothing to switch",
                mend="Create its Service first",
            )
        if only and only not in mine:
            raise OptionError(
                f"switch: Service {only!r} does not select the pods of {self.target}{nearest(only, mine)}",
                mend=f"They are selected by {', '.join(sorted(mine))}",
            )
        return [mine[only]] if only else [mine[name] for name in sorted(mine)]

    def leaks(self, services: Sequence[Object], apart: Apart) -> None:
        """Warn of Services that will not be switched, and would send requests to green from its start."""
        others = {name: each for name, each in self._services.items() if name not in map(name_of, services)}
        for each in selecting(others.values(), {**pod_labels(self.stable), apart.key: apart.value}):
            self.warnings.append(f"Service {name_of(each)} selects the pods of both sides, and is not switched")

    def switch(self, services: Sequence[Object], apart: Apart) -> None:
        """Send the Services' requests to green."""
        record = {"of": self.target.name, "key": apart.key, "before": apart.before, "value": apart.value}

        def make(now: Object) -> Optional[Dict[str, Any]]:
            if _record(now) == record and now["spec"]["selector"].get(apart.key) == apart.value:
                return None
            return _patch(now, json.dumps(record, sort_keys=True), {apart.key: apart.value})

        for each in services:
            if self.changed(self._path(each), make):
                self.actions.append(f"switched Service {name_of(each)} to {self.own.target.name}")
        self._services = self.services()

    def switch_back(self) -> None:
        """Send all requests to blue."""

        def make(now: Object) -> Optional[Dict[str, Any]]:
            told = _record(now)
            if told.get("of") != self.target.name:
                return None
            turned = now["spec"]["selector"].get(told["key"]) == told["value"]
            return _patch(now, None, {told["key"]: told["before"]} if turned else {})

        switched = self.switched
        for each in switched:
            gone = f"Service {name_of(each)} is gone, so it was not switched back"
            if self.changed(self._path(each), make, gone):
                self.actions.append(f"switched Service {name_of(each)} back to {self.target.name}")
        if switched and not self.how.dry:
            self._services = self.services()

    def facts(self) -> Dict[str, object]:
        """Which side is live, and what green is."""
        told = super().facts()
        return {**told, "live": self.own.target.name if self.live else self.target.name}

    def _path(self, service: Object) -> str:
        return path_of("v1", "services", self.target.namespace, name_of(service))


def named_siblings(steps: Steps) -> Dict[str, Object]:
    """What has the name and the label of something that stands beside the workload, by its track; ours or not."""
    if steps.target.kind.kind != "Deployment":
        return {}
    found = steps.api.items(steps.target.collection, labelSelector=f"{TRACK} in ({CANARY},{GREEN})")
    named = {name_of(each): {"kind": "Deployment", "apiVersion": steps.target.kind.group, **each} for each in found}
    tracks = {track: named.get(sibling_name(steps.target.name, track)) for track in (CANARY, GREEN)}
    return {track: each for track, each in tracks.items() if each and each["metadata"]["labels"][TRACK] == track}


def siblings(steps: Steps, workload: Object) -> List[Object]:
    """What stands beside the workload, and is ours."""
    return [each for track, each in named_siblings(steps).items() if is_sibling(each, workload, track)]


def seen_whole(steps: Steps, view: View, beside: Sequence[Object]) -> Tuple[Situation, Dict[str, object]]:
    """The place with what stands `beside`: its situation, where a live green side is what is current, and the facts."""
    facts: Dict[str, object] = {each["metadata"]["labels"][TRACK]: side_facts(each) for each in beside}
    green = next((each for each in beside if each["metadata"]["labels"][TRACK] == GREEN), None)
    if green is None:
        return view.situation, facts
    services = steps.api.items(path_of("v1", "services", steps.target.namespace))
    live = any(_record(each).get("of") == steps.target.name for each in services)
    facts["live"] = name_of(green) if live else steps.target.name
    release = pending_of(green)
    if not live or release is None:
        return view.situation, facts
    others = tuple(each for each in view.situation.releases if each.id != release.id)
    seen = replace(view.situation, current=release.id, releases=(release, *others), journal=journal_of(green))
    return seen, facts


def _patch(now: Object, record: Optional[str], selector: Mapping[str, str]) -> Dict[str, Any]:
    pin = {"resourceVersion": now["metadata"]["resourceVersion"], "annotations": {SWITCHED: record}}
    return {"metadata": pin, "spec": {"selector": dict(selector)}}


def _as_blue(service: Object) -> Object:
    told = _record(service)
    selector = (service.get("spec") or {}).get("selector") or {}
    if not told or selector.get(told["key"]) != told["value"]:
        return service
    return {**service, "spec": {**service["spec"], "selector": {**selector, told["key"]: told["before"]}}}


def _record(service: Object) -> Dict[str, str]:
    """Whose green side a Service is switched to; nothing when it is not, or when that cannot be read."""
    try:
        told = json.loads(notes_of(service).get(SWITCHED) or "{}")
    except ValueError:
        return {}
    whole = isinstance(told, dict) and all(isinstance(told.get(key), str) for key in ("of", "key", "before", "value"))
    return told if whole else {}
