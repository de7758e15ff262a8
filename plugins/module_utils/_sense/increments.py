# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From raw readings to the judge's looks. Pure and stateful; the state is JSON-safe, so that a bake can go on later.

A look's increments cover the same stretch of time on all places: from the cut of the look before to the newest instant
that all places have. Without that, a place that was read later would seem to carry more of the traffic, and of the
errors, than it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

from .._judge.model import Absent, Counts, GateLook, Liveness
from .model import Answer, Presence, Reading, Sample, Value

# readings this close together, as a share of the look's length, count as simultaneous: whole numbers stay whole
SIMULTANEOUS = 0.1
# the kernel's own boot time, from which start times are computed, jitters by a second
START_JITTER = 1.5
_KEPT = 64


class Track:
    """The readings of one place for one gate since what was last counted."""

    def __init__(self, first: Reading, counted: Optional[Reading] = None) -> None:
        self.readings: List[Reading] = [first]
        self.counted = counted

    @property
    def newest(self) -> Reading:
        return self.readings[-1]

    def add(self, reading: Reading) -> None:
        if reading.at > self.newest.at:
            self.readings.append(reading)
            del self.readings[:-_KEPT]

    def has_reset(self, reading: Reading) -> bool:
        return reading.bad < self.newest.bad or reading.total < self.newest.total

    def at(self, instant: float) -> Optional[Reading]:
        """What the counters were at `instant`, on the line between the readings around it; None before the first."""
        before = self.readings[0]
        if instant < before.at:
            return None
        for after in self.readings[1:]:
            if after.at >= instant:
                share = (instant - before.at) / (after.at - before.at)
                bad = before.bad + share * (after.bad - before.bad)
                return Reading(instant, bad, before.total + share * (after.total - before.total))
            before = after
        return before

    def count(self, cut: float, *, simultaneous: bool) -> Optional[Counts]:
        """What came since the last count, up to `cut`; None when there is no last count to start from."""
        now = self.newest if simultaneous else self.at(cut)
        if now is None:
            return None
        if self.counted is None:
            self.counted = now
            return None
        if now.at <= self.counted.at:
            return Counts(0.0, 0.0)
        total = max(0.0, now.total - self.counted.total)
        # a service may count an error before it counts its request: what is too much comes with the next look
        bad = min(max(0.0, now.bad - self.counted.bad), total)
        self.counted = Reading(now.at, self.counted.bad + bad, now.total)
        while len(self.readings) > 1 and self.readings[1].at <= now.at:
            del self.readings[0]
        return Counts(bad, total)


@dataclass
class _Life:
    start: Optional[float] = None
    restarts: int = 0
    replaced: Optional[float] = None  # the start of the process that we ended by changing the release

    def begin(self, start: Optional[float], *, restarted: bool) -> None:
        """Take the process's start. A metrics server may show the process that we ended for a scrape or two more."""
        ours = self.replaced is not None and self.start is not None and self.start <= self.replaced + START_JITTER
        if restarted and not ours:
            self.restarts += 1
        if start is not None:
            self.start = start


class Increments:
    """Turns one sample after the other into what the judge is given.

    A place that is new, was reset, restarted, or was absent while others went on, gives no increments at that look:
    its readings start anew. A `collective` place is many processes that come and go as they are replaced, so that one
    that is gone, or begun anew, is no restart of the place.
    """

    def __init__(self, *, collective: bool = False) -> None:
        self._collective = collective
        self._tracks: Dict[str, Dict[str, Track]] = {}
        self._cuts: Dict[str, float] = {}
        self._lives: Dict[str, _Life] = {}
        self._seen: Dict[str, Dict[str, float]] = {}

    def take(self, sample: Sample) -> Tuple[Dict[str, GateLook], Dict[str, Liveness]]:
        """The looks by gate, and by place whether it lives. With the source down, nothing is known of any place."""
        if sample.down is not None:
            return self._blind(sample.down, sample), {}
        restarted = self._restarted(sample)
        looks = {gate: self._gate(gate, answers, restarted) for gate, answers in sample.answers.items()}
        alive = {place: self._liveness(place, presence) for place, presence in sample.presence.items()}
        return looks, alive

    def reset(self, place: str) -> None:
        """The place runs another release now: its counters, its start and its restarts begin anew."""
        self._lives[place] = _Life(replaced=self._lives.get(place, _Life()).start)
        self._forget(place)

    def state(self) -> Dict[str, object]:
        return {
            "cuts": dict(self._cuts),
            "lives": {place: [life.start, life.restarts, life.replaced] for place, life in self._lives.items()},
            "seen": {gate: dict(places) for gate, places in self._seen.items()},
            "tracks": {
                gate: {place: _track_state(track) for place, track in tracks.items()}
                for gate, tracks in self._tracks.items()
            },
        }

    def restore(self, state: Mapping[str, object]) -> None:
        self._cuts = {gate: _number(cut) for gate, cut in _mapping(state.get("cuts")).items()}
        self._lives = {place: _life(life) for place, life in _mapping(state.get("lives")).items()}
        self._seen = {
            gate: {place: _number(at) for place, at in _mapping(places).items()}
            for gate, places in _mapping(state.get("seen")).items()
        }
        self._tracks = {
            gate: {place: _track(track) for place, track in _mapping(tracks).items()}
            for gate, tracks in _mapping(state.get("tracks")).items()
        }

    def _blind(self, down: Absent, sample: Sample) -> Dict[str, GateLook]:
        """Nobody went on unseen by the others, so the next look's increments are still good."""
        gates = set(self._tracks) | set(self._seen) | set(sample.answers)
        return {gate: GateLook(absent=dict.fromkeys(self._places(gate, sample), down)) for gate in sorted(gates)}

    def _places(self, gate: str, sample: Sample) -> List[str]:
        known = set(self._tracks.get(gate, ())) | set(self._seen.get(gate, ())) | set(sample.answers.get(gate, ()))
        return sorted(known)

    def _restarted(self, sample: Sample) -> List[str]:
        """Places whose process is another one than at the last look; their readings start anew."""
        restarted: List[str] = []
        for place in {*sample.presence, *(place for answers in sample.answers.values() for place in answers)}:
            life = self._lives.setdefault(place, _Life())
            start = _start_of(place, sample)
            begun_anew = start is not None and life.start is not None and start > life.start + START_JITTER
            # an unchanged start is proof that only a series went away, not the process
            same_process = start is not None and life.start is not None
            reset = self._counters_reset(place, sample)
            life.begin(
                start if begun_anew or life.start is None else None,
                restarted=not self._collective and (begun_anew or (reset and not same_process)),
            )
            if begun_anew or reset:
                restarted.append(place)
                self._forget(place)
        return restarted

    def _counters_reset(self, place: str, sample: Sample) -> bool:
        for gate, answers in sample.answers.items():
            answer, track = answers.get(place), self._tracks.get(gate, {}).get(place)
            if isinstance(answer, Reading) and track is not None and track.has_reset(answer):
                return True
        return False

    def _gate(self, gate: str, answers: Mapping[str, Answer], restarted: List[str]) -> GateLook:
        readings = {place: answer for place, answer in answers.items() if isinstance(answer, Reading)}
        return GateLook(
            counts=self._counts(gate, readings),
            values=self._values(gate, answers, restarted),
            absent={place: answer for place, answer in answers.items() if isinstance(answer, Absent)},
        )

    def _counts(self, gate: str, readings: Mapping[str, Reading]) -> Dict[str, Counts]:
        tracks = self._tracks.setdefault(gate, {})
        for place, reading in readings.items():
            if place in tracks:
                tracks[place].add(reading)
            else:
                tracks[place] = Track(reading)
        here = {place: tracks[place] for place in readings}
        if not here:
            return {}
        cut = min(track.newest.at for track in here.values())
        last = self._cuts.get(gate)
        if last is not None and cut <= last:
            return {place: Counts(0.0, 0.0) for place, track in here.items() if track.counted is not None}
        spread = max(track.newest.at for track in here.values()) - cut
        simultaneous = last is None or spread <= SIMULTANEOUS * (cut - last)
        self._cuts[gate] = cut
        for place in set(tracks) - set(here):
            # the others go on without it: a later increment of this place would cover more time than theirs
            del tracks[place]
        counted = {place: track.count(cut, simultaneous=simultaneous) for place, track in here.items()}
        return {place: counts for place, counts in counted.items() if counts is not None}

    def _values(self, gate: str, answers: Mapping[str, Answer], restarted: List[str]) -> Dict[str, float]:
        """Each value once: a metrics server repeats its newest sample until the next scrape."""
        seen = self._seen.setdefault(gate, {})
        values: Dict[str, float] = {}
        for place, answer in answers.items():
            if isinstance(answer, Value) and answer.at > seen.get(place, float("-inf")):
                seen[place] = answer.at
                if place not in restarted:
                    values[place] = answer.value
        return values

    def _liveness(self, place: str, presence: Presence) -> Liveness:
        return Liveness(presence.up, self._lives[place].restarts, presence.detail)

    def _forget(self, place: str) -> None:
        for tracks in self._tracks.values():
            tracks.pop(place, None)


def _start_of(place: str, sample: Sample) -> Optional[float]:
    presence = sample.presence.get(place)
    if presence is not None and presence.start is not None:
        return presence.start
    answers = (answers.get(place) for answers in sample.answers.values())
    starts = [answer.start for answer in answers if isinstance(answer, Reading) and answer.start is not None]
    return min(starts, default=None)


def _track_state(track: Track) -> Dict[str, object]:
    counted = track.counted
    return {
        "readings": [[reading.at, reading.bad, reading.total] for reading in track.readings],
        "counted": [counted.at, counted.bad, counted.total] if counted else None,
    }


def _track(state: object) -> Track:
    kept = _mapping(state)
    readings = [_reading(item) for item in _list(kept.get("readings"))]
    track = Track(readings[0], _reading(kept["counted"]) if kept.get("counted") else None)
    track.readings = readings
    return track


def _reading(state: object) -> Reading:
    at, bad, total = (_number(item) for item in _list(state))
    return Reading(at, bad, total)


def _life(state: object) -> _Life:
    start, restarts, replaced = (None if item is None else _number(item) for item in _list(state))
    return _Life(start, int(restarts or 0), replaced)


def _mapping(state: object) -> Mapping[str, object]:
    return state if isinstance(state, Mapping) else {}


def _list(state: object) -> List[object]:
    return state if isinstance(state, list) else []


def _number(state: object) -> float:
    if isinstance(state, (int, float)):
        return float(state)
    raise ValueError(f"a stored look has {state!r} where a number belongs")
