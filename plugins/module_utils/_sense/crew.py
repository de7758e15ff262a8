# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many questions at the same time, none of which can hold up the others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple, TypeVar, Union

from .client import NoAnswer

if TYPE_CHECKING:
    from multiprocessing.pool import ThreadPool

T = TypeVar("T")
Job = Tuple[Callable[[], T], float]
MAX_THREADS = 128
# beyond a job's own timeout, before it is left behind
_GRACE = 0.25


class Crew:
    """Threads that stay between looks. They are daemons: one that hangs never keeps the process from ending."""

    def __init__(self, size: int) -> None:
        self.size = max(1, min(size, MAX_THREADS))
        self._pool: Optional[ThreadPool] = None

    def all(self, jobs: Sequence[Job[T]]) -> List[Union[T, NoAnswer]]:
        """Each job's result in order, or why it has none; a job is `(work, timeout in seconds)`."""
        if self._pool is None and len(jobs) < 2:
            return [_caught(work) for work, _timeout in jobs]
        # a single question needs no threads, and its task not their import
        from multiprocessing import TimeoutError as PoolTimeout
        from multiprocessing.pool import ThreadPool

        pool = self._pool = self._pool or ThreadPool(self.size)
        begun = time.monotonic()
        rounds = -(-len(jobs) // self.size)
        running = [(pool.apply_async(_caught, (work,)), timeout) for work, timeout in jobs]
        results: List[Union[T, NoAnswer]] = []
        late = False
        for pending, timeout in running:
            left = begun + timeout * rounds + _GRACE - time.monotonic()
            try:
                results.append(pending.get(max(0.0, left)))
            except PoolTimeout:
                late = True
                results.append(NoAnswer("provider_error", f"no whole answer within {timeout:g} s", answered=False))
        if late:
            self.close()
        return results

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _caught(work: Callable[[], T]) -> Union[T, NoAnswer]:
    try:
        return work()
    except NoAnswer as error:
        return error
