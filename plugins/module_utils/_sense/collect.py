# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a source: all queries of all places at the same time, in this process.

Only the source in use is imported, so that a task that scrapes starts no slower than it must.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType
from typing import Callable, Mapping, Optional, Protocol, Sequence, Type

from .._judge.model import Counts, Probed
from .client import Client
from .crew import MAX_THREADS, Crew
from .model import Query, Sample, Targets
from .options import SourceOptions

Slots = Sequence[Mapping[str, Counts]]


class Source(Protocol):
    """What every kind of source promises. `now` is the instant that is asked for, in epoch seconds."""

    def sample(self, now: float) -> Sample: ...

    def probe(self, now: float) -> Mapping[str, Probed]: ...

    def history(self, now: float, window: float, step: float) -> Mapping[str, Slots]: ...


class Sampler:
    """Keeps a source's connections and threads between looks. Close it, or use it as a context."""

    def __init__(
        self,
        options: SourceOptions,
        queries: Sequence[Query],
        targets: Targets,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        size = _size(options, queries, targets)
        self._crew = Crew(size)
        self._client = Client(options.access, connections=size, wall=clock)
        self._source = _source(options, queries, targets, self._client, self._crew)

    def sample(self) -> Sample:
        """What the source says now; whatever it cannot say is an Absent in its place. Never raises for a source."""
        begun = time.monotonic()
        sample = self._source.sample(self._clock())
        return replace(sample, took=time.monotonic() - begun)

    def probe(self) -> Mapping[str, Probed]:
        """What each gate's question meets, for lint."""
        return self._source.probe(self._clock())

    def history(self, window: float = 1200.0, step: float = 30.0) -> Mapping[str, Slots]:
        """Per gate, the increments of each place in each slot of `step` seconds; empty where a source has no past."""
        return self._source.history(self._clock(), window, step)

    def close(self) -> None:
        self._crew.close()
        self._client.close()

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def collect(options: SourceOptions, queries: Sequence[Query], targets: Targets) -> Sample:
    """One look, and the connections closed after it."""
    with Sampler(options, queries, targets) as sampler:
        return sampler.sample()


def probe(options: SourceOptions, queries: Sequence[Query], targets: Targets) -> Mapping[str, Probed]:
    with Sampler(options, queries, targets) as sampler:
        return sampler.probe()


def _size(options: SourceOptions, queries: Sequence[Query], targets: Targets) -> int:
    """As many at once as there are questions: two for each gate, or a page for each instance."""
    if options.type == "exposition":
        return min(MAX_THREADS, sum(max(1, len(target.urls or options.urls)) for target in targets))
    return min(MAX_THREADS, 2 * len(queries) + 2)


def _source(options: SourceOptions, queries: Sequence[Query], targets: Targets, client: Client, crew: Crew) -> Source:
    if options.type == "exposition":
        from .exposition import Exposition

        return Exposition(options, queries, targets, client, crew)
    from .prometheus import Prometheus

    return Prometheus(options, queries, targets, client, crew)
