# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a flag, and prove it: ask, set, read back what clients are served, tell the two times apart.

The same work for the module, for the action beside it, and for whatever else turns flags. A change that waits for an
approval is never a success, and a flag that was as wished beforehand is verified like any other.
"""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import Callable, Dict, Mapping, Optional, Sequence, TypeVar

from .._errors import DeliveryError
from .model import ACCEPTED, UNVERIFIED, Deadline, Provider, Served, State
from .options import parse, parse_look, secrets_of
from .outcome import Record, hidden, one_line, wished
from .providers import provider_of
from .verify import Seen, judge, look, watch

_CONFLICTS = (409, 412)  # somebody else changed it since it was looked at
_TRIES = 4
_BROKEN = (500, 502, 503, 504)  # of the server, or of what stands before it: it may have been done
_NO_RIGHT = (401, 403)
_Sleep = Callable[[float], None]
_Result = TypeVar("_Result")


def change(params: Mapping[str, object], *, dry: bool) -> Dict[str, object]:
    """Do what the options of module `feature_flag` say; in a dry run ask, and set nothing.

    `failed` is in the result of a change that is not proven. What could not be done raises a DeliveryError, whose
    details are the same fields.
    """
    task = parse(params)
    deadline = Deadline.after(task.deadline)
    secrets = secrets_of(task.options)
    record = Record(task.where, task.wish, dry=dry, verify=task.verify)
    try:
        with closing(provider_of(task.options, deadline)) as provider:
            Turn(provider, record, deadline).go()
    except DeliveryError as error:
        fields = {**record.as_dict(), "changed": record.changed, "status": UNVERIFIED, "effective_after": None}
        told = {name: value for name, value in fields.items() if name not in ("msg", "failed")}
        raise _masked(error, secrets, told) from None
    result: Dict[str, object] = hidden(record.as_dict(), secrets)
    return result


def look_at(params: Mapping[str, object]) -> Dict[str, object]:
    """What module `feature_flag_info` tells: what management says, and what clients are served; reads only."""
    task = parse_look(params)
    deadline = Deadline.after(task.deadline)
    secrets = secrets_of(task.options)
    try:
        with closing(provider_of(task.options, deadline)) as provider:
            state = provider.state(task.where)
            served = look(lambda: provider.effective(task.where, task.wish), task.wish, deadline).served
    except DeliveryError as error:
        raise _masked(error, secrets) from None
    where = {"flag": task.where.flag, "environment": task.where.environment, "project": task.where.project}
    told = {**where, "provider": task.options.type, "state": state.as_dict(), "served": served.as_dict()}
    result: Dict[str, object] = hidden({"changed": False, **told}, secrets)
    return result


def served_to(params: Mapping[str, object]) -> Served:
    """What clients are served; management is not asked. DeliveryError where nobody answers."""
    task = parse_look(params)
    deadline = Deadline.after(task.deadline)
    try:
        with closing(provider_of(task.options, deadline)) as provider:
            return provider.effective(task.where, task.wish)
    except DeliveryError as error:
        raise _masked(error, secrets_of(task.options)) from None


class Turn:
    """One change as it goes; `record` has what is known of it when it ends, also where it ends by an error."""

    def __init__(self, provider: Provider, record: Record, deadline: Deadline, *, sleep: _Sleep = time.sleep) -> None:
        self._provider, self._record, self._deadline, self._sleep = provider, record, deadline, sleep
        self._where, self._wish = record.where, record.wish

    def go(self) -> None:
        record = self._record
        record.before = record.after = self._state()
        record.differs = self._provider.wanted(self._where, self._wish, record.before)
        first = self._first_look() if record.verify else None
        if record.dry:
            record.seen = first
            record.after = wished(record.before, self._wish) if record.differs else record.before
            return
        if record.differs:
            self._set(record.before)
            first = None  # of before the change
        if record.verify:
            self._watch(first)
            self._doubt()
        else:
            record.warnings.append(f"verify is no: nobody was asked what clients are served of {self._where}")

    def _doubt(self) -> None:
        """One evaluation that was as wished before the change says little about those who were served the other."""
        record = self._record
        if not (record.changed and self._wish.for_all and record.served_before and record.seen):
            return
        before, after = judge(self._wish, record.served_before), record.seen
        if before.met and after.verdict.met and after.served.percentage is None:
            record.warnings.append(
                f"who was asked for was served that of {self._where} before the change, too, so that it does not show"
                " since when the others are: name one in context who was not, or let rules be read that hold for all"
            )

    def _first_look(self) -> Seen:
        """Who may not ask what clients are served is told so before anything is changed."""
        first = self._look()
        if first.error is not None and first.error.details.get("http_status") in _NO_RIGHT:
            raise first.error
        self._record.served_before = first.served
        return first

    def _set(self, state: State) -> None:
        """Set it; where somebody else changed it meanwhile, by what it is now."""
        record, provider = self._record, self._provider
        for attempt in range(1, _TRIES + 1):
            try:
                change = self._timed(partial(provider.set, self._where, self._wish, state))
            except DeliveryError as error:
                status = error.details.get("http_status")
                if error.details.get("lost") or status in _BROKEN:
                    self._find(error)
                    return
                if status == ACCEPTED:
                    self._halfway(state)
                    record.pending = error.what
                    return
                if status not in _CONFLICTS or attempt == _TRIES:
                    self._halfway(state)
                    raise
                state = record.after = self._state()
                if not provider.wanted(self._where, self._wish, state):
                    return
            else:
                record.pending, record.changed = change.pending, not change.pending
                record.after = self._state_now()
                return

    def _find(self, error: DeliveryError) -> None:
        """The answer to a change is lost: was it done?"""
        record = self._record
        record.after = None
        try:
            record.after = self._state()
        except DeliveryError:
            raise error from None
        if self._provider.wanted(self._where, self._wish, record.after):
            mend = "Asked again, the provider says that it was not done"
            raise type(error)(error.what, mend=mend, details=error.details) from None
        record.changed = True
        record.warnings.append(f"{error.what}. Asked again, the provider says that it was done.")

    def _halfway(self, state: State) -> None:
        """It was refused; what takes several calls may have begun all the same."""
        after = self._state_now()
        self._record.after = after
        self._record.changed = after is not None and after.as_dict() != state.as_dict()

    def _watch(self, first: Optional[Seen]) -> None:
        record, deadline = self._record, self._deadline
        if record.pending:  # until somebody approves, there is nothing to wait for
            deadline = Deadline(deadline.clock(), deadline.clock)
        record.seen = watch(self._effective, self._wish, deadline, first=first, sleep=self._sleep)
        record.waited = deadline.clock() - record.called_at

    def _look(self) -> Seen:
        return look(self._effective, self._wish, self._deadline)

    def _effective(self) -> Served:
        return self._provider.effective(self._where, self._wish)

    def _state(self) -> State:
        return self._timed(partial(self._provider.state, self._where))

    def _state_now(self) -> Optional[State]:
        try:
            return self._provider.state(self._where)
        except DeliveryError as error:
            self._record.warnings.append(f"what management says now is not known: {error.message}")
            return None

    def _timed(self, call: Callable[[], _Result]) -> _Result:
        clock, record = self._deadline.clock, self._record
        begun = clock()
        try:
            return call()
        finally:
            record.called_at = clock()
            record.call_took += record.called_at - begun


def _masked(error: DeliveryError, secrets: Sequence[str], told: Optional[Mapping[str, object]] = None) -> DeliveryError:
    details = {name: value for name, value in error.details.items() if name != "lost"}
    said = [one_line(error.what), one_line(error.mend)]
    what, mend, details = hidden([*said, {**details, **(told or {})}], secrets)
    return type(error)(what, mend=mend, service=error.service, details=details)
