# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception family of this collection.

Everything that can go wrong for a reason a user can act on raises a `DeliveryError`: what happened, on which
service, and what to do next. It is turned into `fail_json` or an action result in one place per entry point, so that
no helper needs to know Ansible, and no message is built from a secret.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Iterable, Mapping, Optional


class DeliveryError(Exception):
    """Something went wrong that the reader can do something about.

    `what` is one sentence of what happened, without its full stop; `mend` says what to do next; `service` is the
    service it happened on, where it is known; `details` are JSON-safe facts for machines, never a secret.
    """

    def __init__(
        self, what: str, *, mend: str = "", service: str = "", details: Optional[Mapping[str, object]] = None
    ) -> None:
        self.what = what.rstrip(".")
        self.mend = mend.rstrip(".")
        self.service = service
        self.details = dict(details or {})
        super().__init__(self.message)

    @property
    def message(self) -> str:
        where = f"{self.service}: " if self.service else ""
        mend = f" {self.mend}." if self.mend else ""
        return f"{where}{self.what}.{mend}"

    def on(self, service: str) -> "DeliveryError":
        """The same error, named for `service` when it does not name one yet."""
        if not self.service:
            self.service = service
            self.args = (self.message,)
        return self


class OptionError(DeliveryError):
    """An option, a policy or a gate is wrong; nothing was touched."""


class SourceError(DeliveryError):
    """A source of metrics could not be asked."""


class PlaceError(DeliveryError):
    """A place could not be changed, or not be brought back."""


class FencedError(PlaceError):
    """A newer holder has been at this place: the caller's fencing token is too low."""


class StoreError(DeliveryError):
    """The ledger's store is down, full, corrupt, read-only, or of another version."""


class LeaseError(DeliveryError):
    """The lease on a service is held by somebody else, or was lost."""


class GuardError(DeliveryError):
    """The guard does not allow it; `details` hold the decision."""


class RolloutError(DeliveryError):
    """The rollout is not in a state for this: another one is unfinished, this one is closed, or there is none."""


class TellError(DeliveryError):
    """Somebody could not be told: who takes a heartbeat or metrics is down, or refuses them."""


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known word nearest to `word`, or an empty string."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
