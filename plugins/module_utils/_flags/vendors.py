# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vendors' providers have in common: what they insist on, whom they ask for, and reading their JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, List, Mapping, Optional
from urllib.parse import urlsplit, urlunsplit

from .._errors import OptionError
from .client import Answer, Http, refused, token_of
from .model import Deadline, FlagError, Options, Served, Where, Wish

SOMEBODY = "selfheal.delivery"  # who asks, when no context names anybody


class Sides:
    """The two sides of a vendor: its management API, and what its clients ask. Each is reached when it is needed.

    `root` is where the API begins in the vendor's own addresses, such as `/api/v2`: whether an address is given with it
    or without, it is the same.
    """

    def __init__(self, options: Options, deadline: Deadline, root: str = "") -> None:
        self.options, self._deadline, self._root = options, deadline, root
        self._management: Optional[Http] = None
        self._clients: Optional[Http] = None

    def management(self, url: str, headers: Callable[[str], Mapping[str, str]], *, needed: bool = True) -> Http:
        """The management API; `url` is where it is when nobody says, `headers` are made of the token."""
        if self._management is None:
            sent = headers(token_of(self.options, needed=needed))
            self._management = Http(self._base(self.options.url or url), self.options, sent, self._deadline)
        return self._management

    def clients(self, url: str, headers: Mapping[str, str]) -> Http:
        """What clients ask; `url` is where that is when nobody says."""
        if self._clients is None:
            self._clients = Http(self._base(self.options.client_url or url), self.options, headers, self._deadline)
        return self._clients

    @property
    def may_manage(self) -> bool:
        """Is there a token for the management API?"""
        return bool(self.options.token or self.options.token_file)

    def close(self) -> None:
        for side in (self._management, self._clients):
            if side is not None:
                side.close()

    def _base(self, url: str) -> str:
        parts = urlsplit(url)
        if not self._root or f"{self._root}/" not in f"{parts.path}/":
            return url
        return urlunsplit((parts.scheme, parts.netloc, f"{parts.path}/".partition(f"{self._root}/")[0], "", ""))


def required(value: str, what: str, vendor: str, example: str = "") -> str:
    """`value`, or OptionError that says what `vendor` needs."""
    if not value:
        raise OptionError(f"{vendor} needs {what}", mend=f"Set {what}{f', such as {example}' if example else ''}")
    return value


def targeting_key(wish: Wish) -> str:
    """Whom an evaluation is asked for."""
    return str(wish.context.get("targetingKey") or SOMEBODY)


def attributes(wish: Wish) -> Dict[str, object]:
    """What is known of them, besides their key."""
    return {name: value for name, value in wish.context.items() if name != "targetingKey"}


def unknown_to_clients(why: str, by: str = "", *, final: bool = True) -> Served:
    """Nobody can tell what clients are served; `final`: nor will they a moment later."""
    return Served(known=False, why=why, by=by, final=final)


def without_token() -> Served:
    """Nobody may ask what clients are served."""
    return unknown_to_clients("provider has no client_token, so that clients' side cannot be asked")


def no_client(answer: Answer, what: str, kind: str) -> FlagError:
    """Who asks as a client is none: client_token is not of `kind`.

    Some vendors have the key in the address, and say that there is no such address; it is a matter of rights all the
    same, and the address is not shown.
    """
    bare = replace(answer, url=f"{urlsplit(answer.url).scheme}://{urlsplit(answer.url).netloc}")
    error = refused(bare, what, {answer.status: f"client_token is no {kind}"})
    error.details["http_status"] = 401
    return error


def itself(found: Mapping[str, object], key: str, where: Where) -> Mapping[str, object]:
    """`found`, which says by `key` that it is this flag. Anything else has no `enabled`, and must not count as off."""
    if found.get(key) != where.flag:
        raise FlagError(f"reading {where}: what was answered is not this flag", mend="Check provider.url")
    return found


def mapping(value: object) -> Mapping[str, object]:
    """A JSON object; empty when it is something else."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: object) -> List[Mapping[str, object]]:
    """The objects of a JSON list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def number(value: object) -> Optional[float]:
    """A JSON number; a truth value is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def texts(value: object, name: str) -> List[str]:
    """What the objects of a JSON list have under `name`."""
    return [one[name] for one in mappings(value) if isinstance(one.get(name), str)]  # type: ignore[misc]
