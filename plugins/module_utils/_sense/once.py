# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a gate's counts or values: since the processes began, or over a stretch of time."""

from __future__ import annotations

import time
from typing import Callable, Sequence

from .._judge.model import Counts, GateLook
from .collect import Sampler
from .model import EVERYTHING, Query, Reading, Sample, Targets, Value
from .options import SourceOptions


def look_once(
    options: SourceOptions,
    query: Query,
    targets: Targets,
    *,
    window: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> GateLook:
    """The counts of each place since it began, or with `window` over so many seconds.

    A metrics server is asked for the last `window` seconds; places that are scraped are read twice, `window` apart.
    """
    places = tuple(target.place for target in targets) or (EVERYTHING,)
    with Sampler(options, [query], targets) as sampler:
        first = sampler.sample()
        standing = as_look(first, query.gate, places)
        if not window or query.value:
            return standing
        if options.type == "prometheus":
            slots = [] if first.down else sampler.history(window, window).get(query.gate, [])
            return GateLook(counts=slots[-1] if slots else {}, absent=standing.absent)
        from .increments import Increments

        increments = Increments()
        increments.take(first)
        sleep(window)
        looks, _alive = increments.take(sampler.sample())
        return looks[query.gate]


def as_look(sample: Sample, gate: str, places: Sequence[str]) -> GateLook:
    """What the counters stand at, as if everything since the start were one look."""
    answers = sample.answers.get(gate, {})
    counts = {p: Counts(told.bad, told.total) for p, told in answers.items() if isinstance(told, Reading)}
    values = {place: told.value for place, told in answers.items() if isinstance(told, Value)}
    absent = {p: told for p, told in answers.items() if not isinstance(told, (Reading, Value))}
    if sample.down is not None:
        absent = dict.fromkeys(places, sample.down)
    return GateLook(counts, values, absent)
