# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which feature flag of a service is turned, and how, by what its policy says. Pure.

Only flags that the policy lists are ever touched: no event, and no catalogue, can name another one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Dict, Mapping, Optional

from .._errors import OptionError, nearest
from .._judge.part import Part, plain, shown

# of one flag; the same keys in `delivery_flags` are for all flags that do not say it themselves
KEYS = ("provider", "environment", "project", "context", "serve", "deadline", "refresh")
DEADLINE = 10.0  # seconds for the provider's answer, and until clients would be served the new value
REFRESH = 15.0  # seconds until every client has asked again: what most SDKs that poll take
LONGEST = 600.0


@dataclass(frozen=True)
class Switch:
    """A flag, and what its policy says of it; how its provider is reached stays in the inventory, with its secrets.

    `deadline` is for the call and its taking effect, `refresh` for clients that poll, both in seconds. `serve` is what
    clients are to be served while it is off.
    """

    flag: str
    environment: str = ""
    project: str = ""
    serve: object = False
    context: Mapping[str, object] = field(default_factory=dict)
    deadline: float = DEADLINE
    refresh: float = REFRESH

    def as_dict(self) -> Dict[str, object]:
        return asdict(self)


def flag_of(given: str, code_flag: Optional[str], policy: Mapping[str, object]) -> str:
    """The flag's name: as a person gives it, as the catalogue says of the error code, or as the policy does."""
    name = given or code_flag or policy.get("flag") or ""
    if not isinstance(name, str):
        raise OptionError(f"the policy's flag is {shown(name)}, which is no name", mend="Name one of its flags")
    if not name:
        raise OptionError(
            "nobody says which flag is to be turned off",
            mend="Set flag in the policy or in the catalogue, or kill_switch_flag",
        )
    return str(name)


def switch_of(name: str, policy: Mapping[str, object], shared: object) -> Switch:
    """The flag as the policy's `flags` have it, over `shared`, the inventory's `delivery_flags`.

    OptionError with the nearest name where the policy does not list it, and for whatever is wrong there.
    """
    flags = policy.get("flags") or {}
    if not isinstance(flags, Mapping):
        raise OptionError("the policy's flags are no mapping", mend="Write them as {name-of-the-flag: {}}")
    if name not in flags:
        known = [str(one) for one in flags]
        raise OptionError(
            f"its policy lists no flag {shown(name)}{nearest(name, known)}",
            mend=f"Listed are {', '.join(known)}" if known else "Name it under flags in the policy",
        )
    common = Part("delivery_flags", shared or {}, KEYS).plain()
    part = Part(f"flag {name!r}", {**common, **Part(f"flags.{name}", flags[name] or {}, KEYS).plain()}, KEYS)
    provider, context = part.get("provider"), part.get("context")
    if not isinstance(provider, Mapping) or not provider.get("type"):
        raise OptionError(
            f"flag {name!r} has no provider", mend="Set provider: {type: …} in delivery_flags, or for this flag"
        )
    if context is not None and not isinstance(context, Mapping):
        raise OptionError(f"flag {name!r}: context must be a mapping", mend="Write it as {targetingKey: user-1}")
    deadline = part.seconds("deadline", DEADLINE, least=1.0)
    refresh = part.seconds("refresh", REFRESH)
    for key, seconds in (("deadline", deadline), ("refresh", refresh)):
        if seconds > LONGEST:
            raise OptionError(f"flag {name!r}: {key} is over {LONGEST:g} s", mend="A kill switch has to be quick")
    texts = {key: str(part.get(key) or "") for key in ("environment", "project")}
    serve, kept = plain(part.get("serve")), dict(context or {})
    return Switch(name, **texts, serve=serve is not None and serve, context=kept, deadline=deadline, refresh=refresh)
