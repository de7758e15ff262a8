# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a lease in force while something slow runs: a thread renews it every third of its time to live.

The thread has a ledger of its own, opened in the thread: SQLite's connections belong to one thread and outlive no
fork. It gives up when the lease is lost, and when the parent process is not the same any more: an Ansible worker whose
ansible-playbook was killed goes on as an orphan, and nobody would wait for it or stop it.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Callable, Optional, Type

from .._errors import DeliveryError, LeaseError, StoreError
from .ledger import Ledger
from .model import Lease


class LeaseKeeper:
    """`with LeaseKeeper(open, lease, ttl=30) as keeper: … keeper.check() …`; it does not give the lease back.

    `ttl` is in seconds. `wait` is called with the seconds to the next renewal and says True when it is time to stop.
    A store that fails is tried again until the lease has run out by `clock` (epoch seconds).
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
        if self._lost is None:
            try:
                self._still_ours()
            except LeaseError as error:
                self._lost = error
        return self._lost is not None

    def check(self) -> Lease:
        """The lease as it was renewed last; LeaseError when it is lost."""
        if self.lost and self._lost is not None:
            raise self._lost
        return self._lease

    def _still_ours(self) -> None:
        if self._parent() != self._born_of:
            raise self._loss("The process that started this one is gone, so nobody waits for it any more")
        if self._clock() >= self._lease.expires:
            trouble = f" ({self._trouble})" if self._trouble else ""
            raise self._loss(f"The lease of {self._lease.holder} ran out before it could be renewed{trouble}")

    def _loss(self, what: str) -> LeaseError:
        mend = "Stop here: whoever takes the lease, or reconcile, goes on from the recorded state"
        return LeaseError(what, mend=mend, service=self._lease.service)

    def _run(self) -> None:
        ledger: Optional[Ledger] = None
        try:
            while not self.lost and not self._stop.is_set():
                try:
                    ledger = ledger or self._open()
                    self._lease = ledger.renew(self._lease, self._ttl, self._clock())
                    self._trouble = ""
                except StoreError as error:
                    self._trouble = error.what
                if self._wait(self._ttl / 3):
                    return
        except LeaseError as error:
            self._lost = error
        except DeliveryError as error:
            self._lost = self._loss(f"The lease of {self._lease.holder} cannot be renewed: {error.what}")
        finally:
            if ledger is not None:
                ledger.close()
