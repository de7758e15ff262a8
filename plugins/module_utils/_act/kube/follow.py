# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow several lists of a cluster's objects at once, by watch: what happens is seen when it happens.

One thread for each list reads and then watches it, and reads again whenever the watch ends: also over an API server
that restarts. The caller's own thread looks at what they found.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, TypeVar, Union

from ..._errors import DeliveryError, PlaceError
from .api import Api, Gone

Object = Mapping[str, Any]
Seen = TypeVar("Seen")
# list's name -> uid -> object
State = Dict[str, Dict[str, Object]]
# list's name, and either what it holds now or what went wrong
_News = Tuple[str, Union[Dict[str, Object], DeliveryError]]

_WATCH = 60.0  # seconds of one watch; then it is read again, so that nothing can stay unseen for longer
_PAUSE = 0.1  # seconds before a list is read again that was interrupted


class Follow:
    """`with Follow(api, {"pods": (path, {"labelSelector": "app=shop"})}) as follow: follow.until(look, 300)`."""

    def __init__(self, api: Api, lists: Mapping[str, Tuple[str, Mapping[str, str]]]) -> None:
        self._news: "queue.Queue[_News]" = queue.Queue()
        self._lists = [_List(api, name, path, query, self._news) for name, (path, query) in lists.items()]
        self._state: State = {}

    def __enter__(self) -> "Follow":
        for each in self._lists:
            each.start()
        return self

    def __exit__(self, *error: object) -> None:
        for each in self._lists:
            each.stop()

    def until(self, look: Callable[[State], Optional[Seen]], seconds: float) -> Optional[Seen]:
        """What `look` finds in the state, asked whenever that changes; None after `seconds`, or what it raises."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            try:
                name, told = self._news.get(timeout=max(0.0, left))
            except queue.Empty:
                return None
            if isinstance(told, DeliveryError):
                raise told
            self._state[name] = told
            while not self._news.empty() and len(self._state) == len(self._lists):  # a burst is looked at once
                name, told = self._news.get()
                if isinstance(told, DeliveryError):
                    raise told
                self._state[name] = told
            if len(self._state) == len(self._lists):
                found = look(self._state)
                if found is not None:
                    return found


class _List(threading.Thread):
    def __init__(self, api: Api, name: str, path: str, query: Mapping[str, str], news: "queue.Queue[_News]") -> None:
        super().__init__(name=f"follow {name}", daemon=True)
        self._api, self._path, self._query, self._told = api, path, dict(query), news
        self._key = name
        self._stopped = threading.Event()
        self._end: Optional[Callable[[], None]] = None
        self._good = 0.0  # when it was last read, monotonic

    def stop(self) -> None:
        self._stopped.set()
        if self._end is not None:
            self._end()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._once()
            except DeliveryError as error:
                if not isinstance(error, Gone) and not self._worth_trying():
                    self._told.put((self._key, error))
                    return
            except Exception as error:
                self._told.put((self._key, PlaceError(f"{self._path} could not be followed: {type(error).__name__}")))
                return
            self._stopped.wait(_PAUSE)

    def _opened(self, end: Callable[[], None]) -> None:
        self._end = end
        if self._stopped.is_set():
            end()

    def _worth_trying(self) -> bool:
        """A server that comes up again may refuse for a moment what it allowed before."""
        return self._good > 0 and time.monotonic() - self._good < self._api.access.request_timeout

    def _once(self) -> None:
        objects, version = self._api.listing(self._path, **self._query)
        self._good = time.monotonic()
        state = {str(thing["metadata"]["uid"]): thing for thing in objects}
        self._told.put((self._key, dict(state)))
        for event, thing in self._api.watch(self._path, version, _WATCH, self._opened, **self._query):
            if self._stopped.is_set():
                return
            uid = str(thing["metadata"]["uid"])
            if event == "DELETED":
                state.pop(uid, None)
            else:
                state[uid] = thing
            self._good = time.monotonic()
            self._told.put((self._key, dict(state)))
