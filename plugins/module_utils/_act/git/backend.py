# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `git`: a branch that a GitOps controller applies, with its releases known by a journal of tags.

Every change goes: fetch, fence, look, decide, and one atomic push of the branch's next commit and the journal's next
tag. When somebody else's push came first, the server refuses ours; then everything is read and decided again. History
is only ever appended to: going back is a new commit whose content is that of the known good release.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple

from ..._errors import DeliveryError, PlaceError
from .. import plan
from ..durable import Checkpoint, nowhere
from ..model import (
    DEPLOYED,
    KNOWN_GOOD,
    PROMOTED,
    Deploy,
    Outcome,
    Promote,
    Release,
    Rollback,
    Situation,
    release_id,
)
from .address import plain
from .branch import Reader
from .errors import Moved
from .marks import Mark, View

_LOOK = "Deploy it as a release of its own, or take it back, or go back over it with state=known_good without release"
TRIES = 5  # how often a push that came too late is decided again


class Pushes(Protocol):
    """What brings updates of refs, `(object or nothing, ref)`, to the server; in check mode nothing does."""

    def __call__(self, updates: Sequence[Tuple[str, str]]) -> None: ...


def never(updates: Sequence[Tuple[str, str]]) -> None:
    """Check mode's push."""


@dataclass(frozen=True)
class Author:
    """Who our commits and tags are by; `message` is the first line of a commit, instead of ours."""

    name: str
    email: str
    message: str = ""

    def env(self, at: float) -> Dict[str, str]:
        facts = {"NAME": self.name, "EMAIL": self.email, "DATE": f"{int(at)} +0000"}
        return {f"GIT_{role}_{fact}": value for role in ("AUTHOR", "COMMITTER") for fact, value in facts.items()}

    def tagger(self, at: float) -> str:
        return f"{self.name} <{self.email}> {int(at)} +0000"


@dataclass(frozen=True)
class Step:
    """What is to be pushed: the journal's next entry, whose commit is the branch's new head."""

    entry: Mark
    actions: Tuple[str, ...] = ()


@dataclass
class Run:
    """One change: what was read first, and what came of it so far."""

    first: View
    view: View
    release: str
    actions: List[str] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    files: List[str] = field(default_factory=list)


class GitBackend:
    """See `model.Backend`. `ref` is what `deploy` brings to the branch; `clock` gives epoch seconds."""

    def __init__(
        self,
        reader: Reader,
        author: Author,
        *,
        ref: str = "",
        pushes: Optional[Pushes] = None,
        clock: Callable[[], float] = time.time,
        checkpoint: Checkpoint = nowhere,
    ) -> None:
        self._reader = reader
        self._repository = reader.repository
        self._branch = reader.branch
        self._author = author
        self._ref = ref
        self._push = pushes or reader.repository.push
        self._clock = clock
        self._checkpoint = checkpoint
        self._view: Optional[View] = None

    @property
    def view(self) -> View:
        """The branch as it was read last, or as it is after our change."""
        return self._view or self.read()

    def read(self) -> View:
        """Read it now."""
        self._view = self._reader.read(self._ref)
        return self._view

    def current(self) -> Optional[str]:
        return self.view.seen.current

    def releases(self) -> Sequence[Release]:
        return self.view.seen.releases

    def known_good(self) -> Optional[str]:
        return plan.known_good(self.view.seen)

    def deploy(self, wish: Deploy) -> Outcome:
        release_id(wish.release)
        return self._change(wish.release, wish.token, lambda run: self._deployment(run, wish))

    def rollback(self, wish: Rollback) -> Outcome:
        for named, option in ((wish.to, "to"), (wish.leave, "release")):
            if named:
                release_id(named, option)
        return self._change(wish.leave, wish.token, lambda run: self._way_back(run, wish))

    def mark_good(self, wish: Promote) -> Outcome:
        return self._promote(wish, prune=False)

    def promote(self, wish: Promote) -> Outcome:
        return self._promote(wish, prune=True)

    def _promote(self, wish: Promote, *, prune: bool) -> Outcome:
        release_id(wish.release)
        return self._change(
            wish.release,
            wish.token,
            lambda run: self._praise(run, wish),
            lambda run: self._prune(run, wish) if prune else None,
        )

    def _change(
        self,
        release: str,
        token: Optional[int],
        decide: Callable[[Run], Optional[Step]],
        afterwards: Callable[[Run], None] = lambda run: None,
    ) -> Outcome:
        """Read, decide and push, and again while somebody else's push comes first."""
        began = time.monotonic()
        with _facts() as told:
            view = self.read()
            run = Run(first=view, view=view, release=release)
            told.append(lambda: self._outcome(run, began))
            for left in reversed(range(TRIES)):
                plan.fence(run.view.seen, token)
                step = decide(run)
                try:
                    if step:
                        self._bring(run, step)
                    break
                except Moved as moved:
                    if not left:
                        raise PlaceError(
                            f"{self._branch.name} moved {TRIES} times while we pushed to it ({moved.what})",
                            mend="Run this again when it is quieter",
                        ) from None
                    run.view = self.read()
                    run.warnings.clear()
            afterwards(run)
            return self._outcome(run, began)

    def _bring(self, run: Run, step: Step) -> None:
        """Push the branch's new head and the journal's new entry, together or not at all."""
        entry, branch = step.entry, self._branch
        name = f"{branch.tags}/{entry.number:06d}"
        does = {DEPLOYED: "deployed", KNOWN_GOOD: "back to it", PROMOTED: "known good"}[entry.state]
        message = f"{plain(branch.service)} on {branch.shown}: {entry.release} {does}\n\n{entry.body}\n"
        tag = self._repository.tag(name, entry.commit, message, self._author.tagger(entry.at))
        updates = [(tag, f"refs/tags/{name}")]
        if entry.commit != run.view.head:
            run.files = self._repository.files(run.view.head, entry.commit, "")
            updates.insert(0, (entry.commit, f"refs/heads/{branch.name}"))
        self._checkpoint("push")
        self._push(updates)
        run.view = self._view = run.view.after(entry)
        run.actions += step.actions

    # what is decided: each returns the step to push, or None when everything is as wished

    def _deployment(self, run: Run, wish: Deploy) -> Optional[Step]:
        view, seen = run.view, run.view.seen
        known = seen.find(wish.release)
        commit, content = self._wished(run, wish.release, known)
        if known and known.digest != content:
            raise PlaceError(
                f"release {known.id} is taken: it was deployed here with another content",
                mend="Give the new content a release of its own",
            )
        if known and known.bad:
            run.warnings.append(f"release {known.id} was found bad here before: {known.bad.reason}")
        entry = self._entry(run, DEPLOYED, wish.release, wish.rollout, wish.token, by=wish.by, version=wish.version)
        entry = replace(entry, content=content, rollback=wish.rollback or "")
        if seen.current == wish.release and known and known.complete and commit == view.head:
            return self._blocked(run, entry, known)
        entry = self._leaving(run, entry, wish.before, moves=commit != view.head)
        if commit:
            actions = (f"brought {self._branch.name} to {commit[:10]}",) if commit != view.head else ()
            return Step(replace(entry, commit=commit), (*actions, f"marked {wish.release} as deployed"))
        self._puttable(run, known)
        return self._restored(run, entry)

    def _leaving(self, run: Run, entry: Mark, before: str = "", *, moves: bool = True) -> Mark:
        """The entry with what it leaves behind; what nobody recorded is adopted, so that an undo can return to it."""
        view, last, current = run.view, run.view.last, run.view.seen.current or ""
        if view.recorded:
            return replace(entry, before=before or current)
        if not moves:  # what lies there is the new release itself, which somebody has pushed
            pushed = "" if before == current else before
            return replace(entry, before=pushed or (last.release if last else ""))
        if current and before in ("", current):
            return replace(entry, before=current, adopted=view.head, adopted_content=view.content)
        return replace(entry, before=before)

    def _puttable(self, run: Run, known: Optional[Release]) -> None:
        """Can a known release be put on top of the branch?"""
        view, last = run.view, run.view.last
        if known and not known.complete:
            raise PlaceError(
                f"release {known.id} is not in the history of {self._branch.name} any more",
                mend="Say with ref which commit brings it",
            )
        if last and not view.recorded:
            newer = self._repository.log(last.commit, view.head, self._branch.path)
            what = f"a newer change lies on top of release {last.release}"
            raise self._reader.conflict(view, what, newer, last.commit, _LOOK)

    def _blocked(self, run: Run, entry: Mark, known: Release) -> Optional[Step]:
        """The release is current already; only whether it may be rolled back can be news."""
        journal = run.view.seen.journal
        if not entry.rollback or entry.rollback == known.rollback or not journal:
            return None
        same = replace(entry, before=journal.before or "", rollout=journal.rollout)
        return Step(same, (f"set rollback of {known.id} to {entry.rollback}",))

    def _wished(self, run: Run, release: str, known: Optional[Release]) -> Tuple[str, str]:
        """The branch's head for a deploy, or none when `known` has to be put back on top; and the content then."""
        view = run.view
        commit = self._reader.resolved(self._ref) if self._ref else view.head
        if commit != view.head and self._repository.contains(commit, view.head):
            outside = self._reader.outside(view.head, commit)
            if outside:
                where = f"{len(outside)} files outside {self._branch.path}, such as {outside[0]}"
                run.warnings.append(f"{self._ref} also changes {where}")
            return commit, self._reader.content(commit)
        if not self._ref and known:
            return (view.head if known.digest == view.content else ""), known.digest
        content = self._reader.content(commit)
        if content == view.content:
            same = view.seen.find(view.seen.current) if view.recorded else None
            if same and same.id != release:
                run.warnings.append(f"{self._branch.shown} has the same content as release {same.id}")
            return view.head, content
        missing = self._repository.log(commit, view.head, self._branch.path)
        if not self._repository.contains(view.head, commit):
            what = f"{self._ref} does not contain {self._branch.name}"
            raise self._reader.conflict(view, what, missing, commit, "Merge or rebase it")
        if known and known.complete and known.digest == content:
            return "", content
        what = f"{self._ref} is older than {self._branch.name}"
        raise self._reader.conflict(view, what, missing, commit, "Deploy a newer commit")

    def _way_back(self, run: Run, wish: Rollback) -> Optional[Step]:
        seen = run.view.seen
        self._same_release(run, wish)
        if not plan.leaves(seen, wish):
            return None
        self._still_there(seen, wish)
        to = seen.find(plan.target(seen, wish))
        if to is None or seen.current is None:
            return None
        left = seen.find(seen.current)
        unproven = bool(wish.undo and left and left.known_good and left.known_good.rollout == wish.rollout)
        bad = wish.bad if left is None or left.bad is None else ""
        entry = self._entry(run, KNOWN_GOOD, to.id, wish.rollout, wish.token)
        entry = self._leaving(run, replace(entry, content=to.digest, bad=bad, unproven=unproven))
        blamed = (f"marked {seen.current} as {'bad' if bad else 'not known good'}",) if bad or unproven else ()
        return self._restored(run, entry, blamed)

    def _praise(self, run: Run, wish: Promote) -> Optional[Step]:
        seen = run.view.seen
        current = seen.find(seen.current)
        if seen.current != wish.release or current is None:
            raise PlaceError(
                f"cannot promote release {wish.release}: {seen.current or 'no release'} is current here",
                mend="" if run.view.recorded else "Deploy what the branch holds as a release first",
            )
        good = current.known_good
        if current.trusted and good and (not wish.rollout or good.rollout == wish.rollout):
            return None
        entry = self._entry(run, PROMOTED, current.id, wish.rollout, wish.token)
        return Step(replace(entry, content=run.view.content), (f"marked {current.id} as known good",))

    def _prune(self, run: Run, wish: Promote) -> None:
        """Remove what the journal says of old releases; the promotion stands when the server does not allow that."""
        dropped = plan.prunable(run.view.seen, wish)
        old = run.view.disposable(dropped)
        if not old:
            return
        try:
            self._push([("", f"refs/tags/{self._branch.tags}/{entry.number:06d}") for entry in old])
        except PlaceError as problem:
            run.warnings.append(f"tags of old releases could not be removed: {problem.what}")
            return
        gone = {entry.number for entry in old}
        left = tuple(entry for entry in run.view.marks if entry.number not in gone)
        run.view = self._view = replace(run.view, marks=left)
        run.actions += [f"removed {release}" for release in dropped if run.view.seen.find(release) is None]

    # what the decisions stand on

    def _entry(
        self,
        run: Run,
        state: str,
        release: str,
        rollout: str,
        token: Optional[int],
        *,
        by: str = "",
        version: str = "",
    ) -> Mark:
        """The journal's next entry, on the head as it is."""
        view = run.view
        return Mark(
            number=view.free,
            commit=view.head,
            state=state,
            release=release,
            content=view.content,
            at=self._clock(),
            by=by,
            version=version,
            rollout=rollout,
            token=token,
        )

    def _restored(self, run: Run, entry: Mark, first: Tuple[str, ...] = ()) -> Step:
        """Append one commit with the content of `entry.release`, unless the branch has it already."""
        view, repository, branch = run.view, self._repository, self._branch
        actions = (*first, f"brought {branch.shown} back to {entry.release}")
        if entry.content == view.content:
            return Step(entry, actions)
        if view.content != run.first.content:
            newer = repository.log(run.first.head, view.head, branch.path)
            raise self._reader.conflict(view, "somebody else's change came first", newer, run.first.head, _LOOK)
        tree = repository.replaced(view.head, branch.path, view.commits[entry.release])
        message = self._message(entry)
        commit = repository.commit(tree, view.head, message, self._author.env(entry.at))
        return Step(replace(entry, commit=commit), actions)

    def _message(self, entry: Mark) -> str:
        away = f" from {entry.before}" if entry.before else ""
        subject = self._author.message or f"{plain(self._branch.service)}: back to {entry.release}{away}"
        trailers = {
            "Selfheal-Service": self._branch.service,
            "Selfheal-Release": entry.release,
            "Selfheal-Before": entry.before,
            "Selfheal-Reason": entry.bad,
            "Selfheal-Rollout": entry.rollout,
            "Selfheal-Token": "" if entry.token is None else str(entry.token),
        }
        lines = (f"{key}: {' '.join(value.split())}" for key, value in trailers.items() if value)
        return subject.strip() + "\n\n" + "\n".join(lines) + "\n"

    def _same_release(self, run: Run, wish: Rollback) -> None:
        """Refuse to go back over a change that came after the release which the wish is about."""
        view, seen, last = run.view, run.view.seen, run.view.last
        if last is None or seen.current is None or wish.to == seen.current:
            return
        about = (wish.leave, plan.owned(seen, wish.rollout))
        if seen.current in about:
            return
        by_name = bool(wish.leave) and not wish.undo
        if not view.recorded and (by_name or last.release in about):
            newer = self._repository.log(last.commit, view.head, self._branch.path)
            what = f"a newer change lies on top of release {last.release}"
            raise self._reader.conflict(view, what, newer, last.commit, _LOOK)
        if not by_name:
            return
        order = [known.id for known in seen.releases]
        current = seen.find(seen.current)
        newest_first = wish.leave in order and current and order.index(current.id) < order.index(wish.leave)
        if newest_first and current and not current.trusted:
            commit = view.commits.get(wish.leave, last.commit)
            newer = self._repository.log(commit, view.head, self._branch.path)
            what = f"release {current.id} was deployed after release {wish.leave}"
            raise self._reader.conflict(view, what, newer, commit, _LOOK)

    def _still_there(self, seen: Situation, wish: Rollback) -> None:
        """Say it plainly when the way back was cut by a rewritten history."""
        lost = [known for known in seen.releases if known.known_good and not known.bad and not known.complete]
        named = next((known for known in lost if known.id == wish.to), None)
        if named or (lost and not wish.to and not plan.known_good(seen)):
            release = (named or lost[0]).id
            commit = next(entry.commit for entry in reversed(self.view.marks) if entry.release == release)
            raise PlaceError(
                f"cannot go back to release {release}: {self._branch.name} no longer contains its commit "
                f"{commit[:10]}, so its history was rewritten or is cut off",
                mend="Bring the history back, or deploy a release that mends it",
                details={"current": seen.current, "changed": False},
            )

    def _outcome(self, run: Run, began: float) -> Outcome:
        seen = run.view.seen
        return Outcome(
            release=run.release or seen.current,
            before=seen.previous,
            current=seen.current,
            known_good=plan.known_good(seen),
            changed=bool(run.actions),
            actions=tuple(run.actions),
            warnings=tuple(run.warnings),
            diff={"before": _shown(run.first), "after": {**_shown(run.view), "files": run.files[:100]}},
            took=round(time.monotonic() - began, 3),
        )


def look(view: View, branch: str) -> Dict[str, object]:
    """What is known of the branch, JSON-safe."""
    seen = view.seen
    return {
        "branch": branch,
        "head": view.head,
        **plan.facts(seen),
        "settled": view.recorded or not view.marks,
    }


@contextmanager
def _facts() -> Iterator[List[Callable[[], Outcome]]]:
    """Give an error the facts that there are beside it."""
    told: List[Callable[[], Outcome]] = []
    try:
        yield told
    except DeliveryError as problem:
        facts: Mapping[str, object] = told[0]().as_dict() if told else {"changed": False}
        problem.details = {**facts, **problem.details}
        raise


def _shown(view: View) -> Dict[str, object]:
    seen = view.seen
    return {
        "commit": view.head,
        "current": seen.current,
        "known_good": [release.id for release in seen.releases if release.known_good],
        "bad": [release.id for release in seen.releases if release.bad],
    }
