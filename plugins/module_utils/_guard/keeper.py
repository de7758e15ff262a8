# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a lease in force while something slow runs: a thread renews it every third of its time to live.

Each renewal opens the ledger anew, in the thread: connections of SQLite belong to one thread and outlive no fork, and
a store that was away is found again. The thread gives up when the lease is lost, and when the parent process is not the
same any more: an Ansible worker whose ansible-playbook was killed goes on as an orphan, and nobody waits for it.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from types import TracebackType
from typing import Callable, Optional, Type

from .._errors import LeaseError, StoreError
from .ledger import Ledger
from .model import Lease


class LeaseKeeper:
    """`with LeaseKeeper(open, lease, ttl=30) as keeper: … keeper.check() …`; it does not give the lease back.

    It begins by renewing, so `lease` may be a copy from long ago; LeaseError when it is not ours any more. `ttl` is in
    seconds. A store that fails is tried again; until it answers, the lease holds as long as it was known to. `wait` is
    called with the seconds to the next renewal and says True when it is time to stop.
    """

    def __init__(
        self,
        ledger_factory: Callable[[], Ledger],
        lease: Lease,
        *,
        ttl: float,
        clock: Callable[[], float] = time.time,
        parent: Callable[[], int] = os.getppid,
        wait: Optional[Callable[[float], bool]] = None,
    ) -> None:
        self._open = ledger_factory
        self._lease = lease
        self._ttl = ttl
        self._clock = clock
        self._parent = parent
        self._born_of = parent()
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._lost: Optional[LeaseError] = None
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="selfheal lease keeper", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self._renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def lost(self) -> bool:
        """True once the lease must not be acted under any more, also when the thread could not notice it yet."""
        return self._loss() is not None

    def check(self) -> Lease:
        """The lease as it was renewed last; LeaseError when it is lost."""
        loss = self._loss()
        if loss is not None:
            raise loss
        return self._lease

    def _loss(self) -> Optional[LeaseError]:
        if self._lost is not None:
            return self._lost
        if self._orphaned():
            why = "The process that started this one is gone, so nobody waits for it any more"
        elif self._clock() >= self._lease.expires:
            trouble = f" ({self._trouble})" if self._trouble else ""
            why = f"The lease of {self._lease.holder} ran out before it could be renewed{trouble}"
        else:
            return None
        mend = "Stop here: whoever takes the lease, or reconcile, goes on from the recorded state"
        return LeaseError(why, mend=mend, service=self._lease.service)

    def _orphaned(self) -> bool:
        return self._parent() != self._born_of

    def _renew(self) -> None:
        try:
            with closing(self._open()) as ledger:
                self._lease = ledger.renew(self._lease, self._ttl, self._clock())
            self._trouble = ""
        except StoreError as error:
            self._trouble = error.what

    def _run(self) -> None:
        try:
            while not self._wait(self._ttl / 3) and not self._orphaned():
                self._renew()
        except LeaseError as error:
            self._lost = error
