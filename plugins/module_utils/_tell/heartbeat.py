# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead man's switch, both ways: a heartbeat that others miss when we are gone, and the alerts' own, which we miss.

A heartbeat says that this controller reaches its ledger. The URL that takes it is as good as a password, so that no
message names more of it than the host. The Watchdog is an alert that always fires: while it keeps coming, the way from
the metrics server to us works.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Dict, Mapping, Optional

from .._act import durable
from .._errors import OptionError, TellError
from .._sense import client
from .channel import check_url, host_of

try:
    import requests
    from requests.utils import get_environ_proxies
except ImportError as error:
    # told where it is needed: Ansible loads this file also on machines that only look at it
    MISSING: Optional[ImportError] = error
else:
    MISSING = None

Note = Mapping[str, object]
WATCHDOG = "watchdog"  # the ledger's note of when it was seen: {at: epoch seconds, from: who told us}
AHEAD = 30.0  # seconds that another machine's clock may be ahead of ours


@dataclass(frozen=True)
class Beat:
    """`at` is in epoch seconds, `every` is after how many seconds the next one is due; `head` is the ledger's."""

    at: float
    every: float
    host: str
    head: str

    def as_dict(self) -> Dict[str, object]:
        return asdict(self)


def write(path: str, beat: Beat) -> None:
    """Replace the file, whose time of change is the heartbeat's, too."""
    try:
        durable.make_folder(os.path.dirname(path))
        durable.write_json(path, beat.as_dict())
    except OSError as error:
        raise TellError(
            f"The heartbeat {path} cannot be written: {error.strerror}", mend="Give it a path that this user can write"
        ) from None


def ping(url: str, method: str, beat: Beat, timeout: float) -> None:
    """Tell whoever waits at the URL; a POST carries the heartbeat as JSON."""
    check_url(url, confidential=False)
    body = json.dumps(beat.as_dict(), sort_keys=True).encode() if method == "POST" else b""
    reach(method, url, body, {"Content-Type": "application/json"} if body else {}, timeout)


def reach(method: str, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> None:
    """One request that only has to arrive; TellError says why it did not, and of the URL only the host."""
    if MISSING is not None:
        raise TellError("The Python library requests is missing on the controller", mend="Install requests")
    try:
        with requests.Session() as session:
            session.trust_env = False  # a ~/.netrc must not add credentials
            with session.request(
                method,
                url,
                data=body or None,
                headers={"User-Agent": "selfheal.delivery", **headers},
                timeout=timeout,
                verify=client.trusted(),
                proxies=dict(get_environ_proxies(url)),
                allow_redirects=False,
                stream=True,
            ) as response:
                status = response.status_code
    except (requests.RequestException, OSError, ValueError) as error:
        raise TellError(
            f"{host_of(url)} {client.why(error, timeout)}", mend="Check the address, and that this machine may reach it"
        ) from None
    if not 200 <= status < 300:
        raise TellError(f"{host_of(url)} answers HTTP {status}", mend="Check the address and its credentials")


def heard(note: Note, at: float, source: str, now: float) -> Dict[str, object]:
    """The note after the Watchdog was seen at `at`; OptionError when that cannot be, or is no news."""
    newest = seen_at(note)
    if at > now + AHEAD:
        raise OptionError(
            f"The Watchdog cannot have been seen {at - now:.0f} s from now", mend="Check the clock of who says so"
        )
    # one from a time that has not come yet was told by a clock that has been set back since
    if newest is not None and at < newest <= now + AHEAD:
        raise OptionError(
            f"The Watchdog was seen {newest - at:.0f} s later than that already",
            mend="Tell when it was seen last, or leave at out",
        )
    return {"at": min(at, now), "from": source}


def seen_at(note: Note) -> Optional[float]:
    """When the Watchdog was seen last, in epoch seconds; None when it never was."""
    at = note.get("at")
    return float(at) if isinstance(at, (int, float)) and not isinstance(at, bool) else None


def silent(note: Note, max_silence: float, now: float) -> Optional[str]:
    """Why the alerts cannot be believed, or None while they can."""
    at = seen_at(note)
    if at is None:
        return "the Watchdog alert was never seen"
    if at > now + AHEAD:
        return f"the Watchdog alert was seen last {at - now:.0f} s from now: a clock was wrong"
    if now - at <= max_silence:
        return None
    return f"the Watchdog alert was not seen for {now - at:.0f} s, at most {max_silence:.0f} s are allowed"
