# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of feature flags: which flag, what is wished, what its provider says, what clients are served. Pure data.

"Off" is not "false": a flag that is switched off may serve the caller's own default. So a wish names the value that
clients shall be served, and only what a client would be given shows that it has come true.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Callable, Dict, Mapping, Optional, Protocol

from .._errors import DeliveryError

ON = "on"
OFF = "off"
STATES = (ON, OFF)

# how a change ended
EFFECTIVE = "effective"  # clients are served what was wished
PENDING = "pending"  # it waits for somebody's approval, or for a schedule
NOT_EFFECTIVE = "not_effective"  # the call succeeded, and clients are still served something else
UNVERIFIED = "unverified"  # nobody could be asked what clients are served, or nobody was to be asked
ENDS = (EFFECTIVE, PENDING, NOT_EFFECTIVE, UNVERIFIED)

ACCEPTED = 202  # of HTTP: taken by who says nothing of when it will be done, which is a success of nothing

Value = object  # JSON: a truth value, a number, a text, or an object


class FlagError(DeliveryError):
    """A flag's provider could not be asked, refuses, or does not know the flag. Whether it changed is said.

    Of its `details`, `http_status` is what the provider answered, and `lost` tells that a change got no answer, so that
    nobody knows whether it was done.
    """


@dataclass(frozen=True)
class Where:
    """Which flag. `environment` and `project` are '' where nobody says; what a provider needs of them it insists on."""

    flag: str
    environment: str = ""
    project: str = ""

    def __str__(self) -> str:
        rooms = "/".join(part for part in (self.project, self.environment) if part)
        return f"flag {self.flag!r} of {rooms}" if rooms else f"flag {self.flag!r}"


@dataclass(frozen=True)
class Wish:
    """What clients shall be served.

    With `state` off, everyone gets `serve`. With on, `percentage` of them (0 to 100; None: all whom the flag's own
    rules let) get `serve`, or `variation` where the provider has several. `context` is whom evaluations are asked for.
    """

    state: str  # one of STATES
    serve: Value = False
    percentage: Optional[float] = None
    variation: str = ""
    reason: str = ""  # shown in the provider's own audit log, where it has one
    context: Mapping[str, object] = field(default_factory=dict)
    looks: bool = False  # nothing is wished: what `context` is served is asked, whatever others are

    @property
    def for_all(self) -> bool:
        """Everybody is to be served the same, which one evaluation that rules decided does not show."""
        return not self.looks and (self.state == OFF or self.percentage in (0, 100))

    @property
    def partial(self) -> bool:
        """Only some are to be served it, so that no single evaluation can show it."""
        return self.state == ON and self.percentage is not None and 0 < self.percentage < 100


@dataclass(frozen=True)
class State:
    """What the provider's management side says of a flag.

    `percentage` is how many of 100 are served the on side while it is on, None where that depends on more than one
    number. `pending` says what waits, if anything. `revision` is what a change is pinned to, where the provider can.
    `note` is what else a person should know, such as rules that are kept for later. `raw` is the provider's own object,
    for `set`; it is never shown.
    """

    on: bool
    percentage: Optional[float] = None
    variation: str = ""
    pending: str = ""
    revision: str = ""
    note: str = ""
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)

    def as_dict(self) -> Dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name != "raw"}


@dataclass(frozen=True)
class Change:
    """What came of a call that sets a flag. `pending` says why it does not count yet, '' when it was taken."""

    pending: str = ""


@dataclass(frozen=True)
class Served:
    """What clients are served, as far as one can know without being one of them.

    `known` False: nobody could tell, and `why` says it; that includes a flag whose clients get their code's default.
    `percentage` is how many of 100 get the on side, where the rules that clients read say so. `by` is how it was found
    out, in a few words such as "client API". `final` says that to ask again would not help.
    """

    known: bool
    value: Value = None
    percentage: Optional[float] = None
    why: str = ""
    by: str = ""
    final: bool = False

    def as_dict(self) -> Dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name != "final"}


class Provider(Protocol):
    """One provider's way of doing it. Every call is bounded by the provider's own `timeout` and by the deadline.

    All raise FlagError: for what cannot be reached, credentials that are missing, wrong, or of the wrong kind, and
    projects, environments and flags that are not there (with the nearest names); OptionError where a wish cannot be
    said to this provider. A 404 is never "already off", and an answer that is not the API's is never a yes.
    """

    def state(self, where: Where) -> State:
        """What the management side says."""

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        """Does `state` differ from the wish, so that `set` is needed? OptionError for a wish that it cannot have."""

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        """Change it, pinned to `state` where the provider can."""

    def effective(self, where: Where, wish: Wish) -> Served:
        """What a client is served now; asked again and again until it is as wished."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True)
class Deadline:
    """A point in time that nothing outlasts; `clock` gives seconds that only go forward."""

    at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> "Deadline":
        return cls(clock() + seconds, clock)

    def left(self) -> float:
        """Seconds, 0 when it has passed."""
        return max(0.0, self.at - self.clock())


@dataclass(frozen=True)
class Options:
    """A provider, as a task names it. Secrets stay out of its repr. `timeout` is seconds for one request.

    `url` and `token` are the management side's, `client_url` and `client_token` the clients' (SDK or environment key).
    `path` is a file of flags; `namespace`, `name`, `key` and `kind` an object in a cluster, reached by `cluster`.
    """

    type: str
    url: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    token_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    client_url: str = field(default="", repr=False)
    client_token: str = field(default="", repr=False)
    client_token_file: str = ""
    ca_path: str = ""
    validate_certs: bool = True
    timeout: float = 5.0
    path: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    key: str = ""
    cluster: Mapping[str, object] = field(default_factory=dict, repr=False)
