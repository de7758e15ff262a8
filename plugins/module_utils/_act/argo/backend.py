# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `argo_rollout`: a Rollout of Argo Rollouts, whose ReplicaSets are the releases.

Going back puts the pod template of the release into the Rollout. To its stable release that is at once, without a
step, and leaves it Healthy; to an older one its canary is promoted in full as soon as the controller knows of it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional, Sequence

from ..._errors import DeliveryError, PlaceError
from .. import plan
from ..model import Deploy, Promote, Release, Rollback, release_id
from . import status
from .back import go_back
from .commands import COMMANDS
from .deploy import bring
from .hands import Hands
from .promote import expect, praise, promote_fully
from .run import ArgoOutcome, Run


class ArgoBackend:
    """See `model.Backend`; `clock` gives epoch seconds."""

    def __init__(self, hands: Hands, clock: Callable[[], float] = time.time) -> None:
        self.hands = hands
        self._clock = clock

    def current(self) -> Optional[str]:
        return self.hands.look().situation.current

    def releases(self) -> Sequence[Release]:
        return self.hands.look().situation.releases

    def known_good(self) -> Optional[str]:
        return plan.known_good(self.hands.look().deciding)

    def deploy(self, wish: Deploy) -> ArgoOutcome:
        release_id(wish.release)
        with self._run(wish.release, wish.token) as run:
            bring(run, wish)
            run.refresh()
            return run.outcome()

    def rollback(self, wish: Rollback) -> ArgoOutcome:
        for named, option in ((wish.to, "to"), (wish.leave, "release")):
            if named:
                release_id(named, option)
        with self._run(wish.leave or None, wish.token) as run:
            go_back(run, wish)
            run.refresh()
            return run.outcome()

    def promote(self, wish: Promote) -> ArgoOutcome:
        """`kubectl argo rollouts promote --full`, and the mark. Argo itself prunes, by revisionHistoryLimit."""
        return self._praise(wish, fully=True)

    def mark_good(self, wish: Promote) -> ArgoOutcome:
        return self._praise(wish, fully=False)

    def command(self, state: str, token: Optional[int] = None) -> ArgoOutcome:
        """What needs no release: one of `COMMANDS`."""
        with self._run(None, token) as run:
            COMMANDS[state](run)
            return run.outcome()

    def _praise(self, wish: Promote, *, fully: bool) -> ArgoOutcome:
        release_id(wish.release)
        with self._run(wish.release, wish.token) as run:
            expect(run, wish.release)
            if fully:
                promote_fully(run)
            elif not status.promoted(run.rollout):
                raise PlaceError(f"cannot mark release {wish.release}: it is not promoted yet")
            praise(run, wish)
            run.refresh()
            return run.outcome()

    @contextmanager
    def _run(self, release: Optional[str], token: Optional[int]) -> Iterator[Run]:
        run: Optional[Run] = None
        try:
            view = self.hands.look()
            plan.fence(view.situation, token)
            run = Run(self.hands, view, self._clock, release=release, token=token)
            yield run
        except DeliveryError as problem:
            problem.details = {**(run.outcome().as_dict() if run else {"changed": False}), **problem.details}
            raise
