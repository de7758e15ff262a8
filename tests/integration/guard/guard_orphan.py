# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker as Ansible forks them, which keeps a lease while its parent waits: for the test that kills the parent."""

from __future__ import annotations

import os
import sys
import time

from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.keeper import LeaseKeeper

TTL = 1.5


def work(path: str) -> None:
    lease = SqliteLedger(path).acquire("shop", "worker", TTL, time.time())
    with LeaseKeeper(lambda: SqliteLedger(path), lease, ttl=TTL) as keeper:
        first = keeper.check()
        while keeper.check().expires == first.expires:
            time.sleep(0.01)
        print(f"renewed {os.getpid()}", flush=True)
        try:
            while keeper.check():
                time.sleep(0.01)
        except LeaseError as error:
            print(error.message, flush=True)


if __name__ == "__main__":
    worker = os.fork()
    if worker:
        os.waitpid(worker, 0)
    else:
        work(sys.argv[1])
        os._exit(0)
