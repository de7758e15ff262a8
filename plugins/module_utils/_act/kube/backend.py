# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `deployment`: a Deployment, StatefulSet or DaemonSet as a place, its revisions as releases.

Every change goes: look, fence, decide, mark what is left as bad, patch template and journal at once, mark the revision,
wait, journal. The patch is pinned on what the decision saw. A run that was killed anywhere is finished, or taken back,
by the next one: the journal in the patch says which release the template is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..._errors import DeliveryError, OptionError, PlaceError
from .. import plan
from ..model import (
    DEPLOYED,
    FAILED,
    KNOWN_GOOD,
    RESTARTING,
    SETTLED,
    Bad,
    Deploy,
    Good,
    Journal,
    Outcome,
    Promote,
    Release,
    Rollback,
    Situation,
    release_id,
)
from .api import MERGE
from .images import change_of, differences, images_mark, pinned, recorded, running
from .marks import notes_of, release_of, workload_marks
from .names import CHANGE_CAUSE, JOURNAL, RESTARTED_AT, TOKEN
from .progress import missing, on_delete, partition_of, status_text
from .revisions import Revision, View, belongs, previous_of
from .workload import (
    changed_keys,
    cleaned,
    digest_of,
    gitops_warning,
    images_of,
    is_paused,
    refuse_owned,
    refuse_paused,
    same,
    same_but_restarted,
    template_of,
    wanted,
)
from .workload_steps import Rolled, Steps

Object = Mapping[str, Any]


class DeploymentBackend:
    """See `model.Backend`. `facts` says, after a change, what only a cluster knows; `clock` gives epoch seconds."""

    def __init__(self, steps: Steps, clock: Callable[[], float] = time.time) -> None:
        self.steps = steps
        self.clock = clock
        self.facts: Dict[str, object] = {}

    def current(self) -> Optional[str]:
        return self.steps.look().situation.current

    def releases(self) -> Sequence[Release]:
        return self.steps.look().situation.releases

    def known_good(self) -> Optional[str]:
        return plan.known_good(self.steps.look().situation)

    def deploy(self, wish: Deploy) -> Outcome:
        release_id(wish.release)
        with self._run(wish.release, wish.token) as run:
            run.refuse()
            template, release = run.wished(wish)
            current = run.view.current
            runs = current is not None and same(current.template, template)
            if current and runs and current.id == release.id:
                run.describe(current, release)
                if run.seen.unsettled or missing(run.view.workload):
                    run.settle()
                return run.outcome()
            before = wish.before or (None if runs else run.before(release.id))
            journal = Journal(DEPLOYED, before, release.id, RESTARTING, self.clock(), wish.rollout, wish.token)
            run.bring(journal, template, release, "adopted" if runs else "switched to")
            return run.outcome()

    def rollback(self, wish: Rollback) -> Outcome:
        for named, option in ((wish.to, "to"), (wish.leave, "release")):
            if named:
                release_id(named, option)
        with self._run(wish.leave or None, wish.token) as run:
            run.restorable(wish)
            to = run.goal(wish)
            if to is not None:
                run.refuse()
                template, release = run.stored(to)
                run.blame(wish)
                journal = Journal(KNOWN_GOOD, run.seen.current, to, RESTARTING, self.clock(), wish.rollout, wish.token)
                run.bring(journal, template, release)
            elif run.seen.unsettled:
                run.refuse()
                run.settle()
            return run.outcome()

    def promote(self, wish: Promote) -> Outcome:
        return self.mark_good(wish)  # Kubernetes itself prunes, by revisionHistoryLimit

    def mark_good(self, wish: Promote) -> Outcome:
        release_id(wish.release)
        with self._run(wish.release, wish.token) as run:
            run.praise(wish)
            return run.outcome()

    def pause(self, paused: bool, token: Optional[int] = None) -> Outcome:
        """Hold a Deployment's rollout, or let it go on."""
        if self.steps.target.kind.kind != "Deployment":
            raise OptionError(f"a {self.steps.target.kind.kind} cannot be paused or resumed", mend="Only a Deployment")
        with self._run(None, token) as run:
            run.hold(paused)
            return run.outcome()

    def restart(self, token: Optional[int] = None) -> Outcome:
        """Replace all pods by new ones of the same release. Asked again, it is done again."""
        with self._run(None, token) as run:
            run.refuse()
            run.again()
            return run.outcome()

    @contextmanager
    def _run(self, release: Optional[str], token: Optional[int]) -> Iterator["_Run"]:
        began = time.monotonic()
        run: Optional[_Run] = None
        try:
            view = self.steps.look()
            plan.fence(view.situation, token)
            run = _Run(self, view, release, token, began)
            yield run
            run.remember()
        except DeliveryError as problem:
            problem.details = {**(run.outcome().as_dict() if run else {"changed": False}), **problem.details}
            if run and run.changed:
                problem.details["changed"] = True
            raise
        finally:
            self.facts["requests"] = self.steps.api.requests


class _Run:
    """One change: `view` and `seen` follow, in memory, what was done, so that check mode can tell it too."""

    def __init__(
        self, backend: DeploymentBackend, view: View, release: Optional[str], token: Optional[int], began: float
    ) -> None:
        self.view, self.seen = view, view.situation
        self._first = view
        self._backend, self._steps, self._how = backend, backend.steps, backend.steps.how
        self._clock = backend.clock
        self._release, self._token, self._began = release, token, began
        self._told_token = view.situation.token
        self._template: Object = template_of(view.workload)
        self._actions: List[str] = []
        self._warnings: List[str] = []

    @property
    def changed(self) -> bool:
        return bool(self._actions)

    # -- what is refused, what is warned of

    def refuse(self) -> None:
        """What makes every change of the template senseless."""
        workload, target = self.view.workload, self._steps.target
        refuse_owned(workload, target)
        refuse_paused(workload, target)
        gitops = gitops_warning(workload, target)
        if gitops and self._how.on_gitops == "refuse":
            raise PlaceError(gitops, details={"changed": False})
        self._warnings += [gitops] if gitops else []
        if wanted(workload) == 0:
            self._warnings.append(f"{target} wants no pods (replicas 0), so nothing shows that the release runs")
        if on_delete(workload):
            self._warnings.append(f"{target} has updateStrategy OnDelete: its pods change only when they are deleted")
        elif partition_of(workload):
            self._warnings.append(f"{target} has partition {partition_of(workload)}: pods below it stay as they are")

    # -- deploying

    def wished(self, wish: Deploy) -> Tuple[Dict[str, Any], Release]:
        """The template that the release is, as the API server would store it, and what is known of the release."""
        workload = self.view.workload
        body = change_of(template_of(workload), self._how.images, self._how.patch, wish.release)
        template = self._steps.preview(body) if body else cleaned(template_of(workload))
        known = self.view.of(wish.release)
        if known and any(same_but_restarted(each.template, template) for each in self.view.all_of(wish.release)):
            template = known.template
        elif known:
            raise PlaceError(
                f"release {wish.release} is taken: its pod template differs in"
                f" {', '.join(changed_keys(known.template, template)[:10])}",
                mend="Give the new content an id of its own",
                details={"changed": False},
            )
        other = self.view.equal(template)
        if other and other.release and other.id != wish.release:
            raise PlaceError(
                f"release {wish.release} would be the same pods as release {other.id}",
                mend=f"Deploy {other.id}, or set images or patch so that the pod template differs",
                details={"changed": False},
            )
        return template, self._described(wish, other)

    def _described(self, wish: Deploy, known: Optional[Revision]) -> Release:
        old = known.release if known else None
        release = old or Release(
            id=wish.release,
            version=wish.version or wish.release,
            deployed_at=self._clock(),
            by=wish.by,
            complete=True,
        )
        if release.bad:
            self._warnings.append(f"release {release.id} was found bad here before: {release.bad.reason}")
        if self.view.workload["spec"].get("revisionHistoryLimit") == 0:
            self._warnings.append("revisionHistoryLimit is 0, so Kubernetes keeps nothing to go back to")
        return replace(release, rollback=wish.rollback) if wish.rollback else release

    def describe(self, revision: Revision, release: Release) -> None:
        """Let the revision, which runs already, be known as the release."""
        stored = self._stored_mark(revision)
        if stored != release:
            adopted = stored is None
            self._mark(revision, release)
            self._actions.append(f"{'adopted' if adopted else 'described'} {release.id}")

    def before(self, release: str) -> Optional[str]:
        """What an interrupted deploy of `release` found here, else what is here."""
        journal = self.seen.journal
        if self.seen.current != release:
            return self.seen.current
        return journal.before if journal and journal.to == release and journal.state == DEPLOYED else None

    # -- going back

    def restorable(self, wish: Rollback) -> None:
        """A release that Kubernetes has pruned can still be gone back to when its recorded template is given."""
        if not self._how.template:
            return
        if not wish.to:
            raise OptionError("template is given without to", mend="Say in to which release the template is")
        if not isinstance(self._how.template.get("spec"), dict):
            raise OptionError("template is not a pod template", mend="Give what the ledger recorded at promotion")
        if self.seen.find(wish.to) is None:
            self._know(Release(id=wish.to, version=wish.to, complete=True, known_good=Good(self._clock(), "ledger")))

    def goal(self, wish: Rollback) -> Optional[str]:
        """The release to go to, or None when nothing has to be left."""
        if self._how.to_revision is not None:
            return self._numbered(wish, self._how.to_revision)
        if self._how.to_previous:
            return self._previous(wish)
        if not plan.leaves(self.seen, wish):
            return None
        try:
            return plan.target(self.seen, wish)
        except PlaceError as error:
            if self._gone(wish):
                error.mend = f"{error.mend}. {self._pruned()}"
                error.args = (error.message,)
                error.details["pruned"] = True
            raise

    def _gone(self, wish: Rollback) -> bool:
        """May what is asked for have been here once?"""
        if wish.to:
            return self.seen.find(wish.to) is None
        current = self.seen.find(self.seen.current)
        return plan.known_good(self.seen) is None and not (current and current.blocked)

    def _pruned(self) -> str:
        limit = self.view.workload["spec"].get("revisionHistoryLimit", 10)
        return (
            f"Kubernetes keeps {limit} old revisions (revisionHistoryLimit); the ledger keeps the pod template of"
            " promoted releases: give it as to and template"
        )

    def _numbered(self, wish: Rollback, number: int) -> str:
        revision = self.view.numbered(number)
        known = ", ".join(f"{each.number} ({each.id})" for each in self.view.revisions)
        if revision is None:
            raise OptionError(f"{self._steps.target} has no revision {number}", mend=f"It has {known}")
        if revision is self.view.current:
            raise OptionError(f"revision {number} of {self._steps.target} is the current one", mend=f"It has {known}")
        plan.leavable(self.seen, wish)
        if revision.as_release.bad:
            self._warnings.append(f"revision {number} is release {revision.id}, which was found bad here")
        return revision.id

    def _previous(self, wish: Rollback) -> Optional[str]:
        journal = self.seen.journal
        if journal and journal.state == KNOWN_GOOD and journal.to == self.seen.current:
            self._warnings.append("the last change here went back already, so there is no previous release to go to")
            return None
        previous = previous_of(self.view)
        if previous is None:
            raise PlaceError(f"{self._steps.target} has no previous revision", details={"changed": False})
        plan.leavable(self.seen, wish)
        return previous.id

    def stored(self, release: str) -> Tuple[Dict[str, Any], Optional[Release]]:
        """The release's template, and its mark where its revision does not have it."""
        revision = self.view.of(release)
        if revision is None:
            template = self._steps.preview_whole(self._how.template)
            return template, self.seen.find(release)
        if self._how.on_digest_change == "refuse":
            template = pinned(revision.template, recorded(revision.raw))
            if not same(template, revision.template):
                return template, revision.as_release
        return revision.template, None

    def blame(self, wish: Rollback) -> None:
        """Mark the current release before it is left: afterwards nothing would tell that it has to be."""
        revision, current = self.view.current, self.seen.find(self.seen.current)
        if revision is None or current is None:
            return
        good = current.known_good
        if wish.undo and good and good.rollout == wish.rollout:
            good = None  # its rollout did not finish, so it has passed nothing
        bad = Bad(self._clock(), wish.bad) if wish.bad and not current.bad else current.bad
        if (good, bad) != (current.known_good, current.bad):
            self._mark(revision, replace(current, known_good=good, bad=bad))
            self._actions.append(f"marked {current.id} as {'bad' if bad else 'not known good'}")

    # -- changing

    def bring(
        self, journal: Journal, template: Dict[str, Any], release: Optional[Release], did: str = "switched to"
    ) -> None:
        """Patch, mark, wait; `release` is written to the revision that comes of it."""
        pending = replace(release, digest=digest_of(template)) if release else None
        notes = workload_marks(journal, self._token, pending)
        workload = self._steps.apply(self.view, template, {**notes, CHANGE_CAUSE: self._cause(journal)})
        self._steps.how.checkpoint("applied")
        self._told_token = self._token if self._token is not None else self._told_token
        self._template = template
        self.seen = replace(self.seen, current=journal.to, journal=journal, token=self._told_token)
        if release:
            self._know(release)
        self._actions.append(f"{did} {journal.to}")
        if not self._how.dry:
            self.view = replace(self.view, workload=workload, current=None)
            self._finish(journal, template, release)

    def settle(self) -> None:
        """Bring what a killed, failed or unwaited run left to its end."""
        current = self.seen.current
        if current is None or self._how.dry:
            return
        revision, journal = self.view.current, self.seen.journal
        unmarked = revision is None or self._stored_mark(revision) is None
        release = self.seen.find(current) if unmarked and journal and journal.to == current else None
        at = Journal(DEPLOYED, None, current, RESTARTING, self._clock(), "", self._token)
        again = replace(journal.about(current), phase=RESTARTING, at=self._clock(), problem="") if journal else at
        if self._finish(again, template_of(self.view.workload), release, stored=journal) and journal:
            self._actions.append(f"finished {current}") if journal.phase == FAILED else None

    def _finish(
        self,
        journal: Journal,
        template: Object,
        release: Optional[Release],
        stored: Optional[Journal] = None,
    ) -> bool:
        """See the revision, mark it, wait until it runs."""

        def found(revision: Revision) -> None:
            if release and self._stored_mark(revision) is None:
                self._steps.mark(revision, replace(release, digest=digest_of(template)))

        if not self._how.wait:
            if release:
                found(self._steps.taken_up(self.view.workload))
            return False
        told = notes_of(self.view.workload).get(JOURNAL, "")
        try:
            rolled = self._steps.wait(template, found, self.view.workload)
        except PlaceError as error:
            self._failed(journal, release, told, error)
            raise
        self._settled(journal, release, told, rolled)
        return True

    def _failed(self, journal: Journal, release: Optional[Release], told: str, error: PlaceError) -> None:
        failed = replace(journal, phase=FAILED, problem=error.what[:500])
        self._steps.note_if(JOURNAL, told, _journal_note(failed, release))
        self.seen = replace(self.seen, journal=failed)
        error.mend = error.mend or f"Release {journal.to} stays current until it is deployed again or taken back"
        error.args = (error.message,)

    def _settled(self, journal: Journal, release: Optional[Release], told: str, rolled: Rolled) -> None:
        settled = replace(journal, phase=SETTLED)
        if told:
            self._steps.note_if(JOURNAL, told, _journal_note(settled, release))
        self.seen = replace(self.seen, journal=settled)
        self.view = replace(self.view, workload=rolled.workload, current=rolled.revision)
        before = recorded(rolled.revision.raw)
        changed = differences(before, running(rolled.revision.template, rolled.pods)) if before else []
        self._warnings += [f"{each}: the content changed under the same name" for each in changed]

    # -- marking good

    def praise(self, wish: Promote) -> None:
        """Mark the current release as known good, with the content that runs."""
        self._promotable(wish)
        revision = self.view.current
        current = self.seen.find(wish.release)
        if revision is None or current is None:
            raise PlaceError(f"cannot promote release {wish.release}: its revision is gone")
        images = running(revision.template, self._only_of(revision, wish.release))
        self._backend.facts.update(template=revision.template, images=images, revision=revision.number)
        good = current.known_good
        if current.trusted and good and (not wish.rollout or good.rollout == wish.rollout):
            return
        whole = replace(current, complete=True, deployed_at=current.deployed_at or self._clock(), bad=None)
        self._mark(revision, replace(whole, known_good=Good(self._clock(), wish.rollout)), images_mark(images))
        self._actions.append(f"marked {current.id} as known good")

    def _promotable(self, wish: Promote) -> None:
        workload = self.view.workload
        problem = ""
        if self.seen.current != wish.release:
            problem = f"{self.seen.current or 'no release'} is current here"
        elif wanted(workload) == 0:
            problem = "replicas is 0, and a release that nobody runs has proven nothing"
        elif on_delete(workload) or not missing(workload):
            problem = ""
        elif self._how.wait and not self._how.dry:
            self.settle()
        else:
            problem = f"it is not rolled out ({missing(workload)})"
        if problem:
            raise PlaceError(f"cannot promote release {wish.release}: {problem}", details={"changed": False})

    def _only_of(self, revision: Revision, release: str) -> List[Object]:
        """The pods of the revision; PlaceError while the workload has others."""
        pods = [pod for pod in self._steps.pods() if self._mine(pod)]
        mine = [pod for pod in pods if belongs(pod, revision)]
        if len(mine) < len(pods):
            raise PlaceError(
                f"cannot promote release {release}: {len(pods) - len(mine)} of {len(pods)} pods run another one",
                details={"changed": False},
            )
        return mine

    def _mine(self, pod: Object) -> bool:
        return any(belongs(pod, each) for each in self.view.revisions)

    # -- pausing, restarting

    def hold(self, paused: bool) -> None:
        workload = self.view.workload
        if is_paused(workload) == paused:
            return
        refuse_owned(workload, self._steps.target)
        body = {"metadata": {"uid": workload["metadata"]["uid"]}, "spec": {"paused": paused}}
        changed = self._steps.api.patch(self._steps.target.path, body, MERGE, dry=self._how.dry, repeatable=True)
        self.view = replace(self.view, workload={**workload, **changed})
        self._actions.append("paused" if paused else "resumed")
        if not paused and self._how.wait and not self._how.dry:
            self._steps.wait(template_of(changed), lambda revision: None, changed)

    def again(self) -> None:
        """A restart is the same release in a revision of its own, marked as the other one is."""
        current = self.seen.current
        if current is None:
            raise PlaceError(f"{self._steps.target} has no revision yet")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        template = cleaned(template_of(self.view.workload))
        metadata = dict(template.get("metadata") or {})
        metadata["annotations"] = {**(metadata.get("annotations") or {}), RESTARTED_AT: stamp}
        old = self.seen.journal
        fresh = Journal(DEPLOYED, None, current, RESTARTING, self._clock(), "", self._token)
        journal = replace(old.about(current), phase=RESTARTING, problem="") if old else fresh
        release = self.view.current.as_release if self.view.current else None
        self.bring(journal, {**template, "metadata": metadata}, release, "restarted")

    # -- telling

    def remember(self) -> None:
        """The token of a run that changed nothing on the workload is remembered too."""
        if self._token is not None and self._token != self._told_token and not self._how.dry:
            told = notes_of(self.view.workload)
            if told:
                self._steps.note_if(TOKEN, told.get(TOKEN), {TOKEN: str(self._token)})

    def outcome(self) -> Outcome:
        self._backend.facts["status"] = status_text(self.view.workload)
        return Outcome(
            release=self._release or self.seen.current,
            before=self.seen.previous,
            current=self.seen.current,
            known_good=plan.known_good(self.seen),
            changed=bool(self._actions),
            actions=tuple(self._actions),
            warnings=tuple(self._warnings),
            diff=self._diff(),
            took=round(time.monotonic() - self._began, 3),
        )

    def _diff(self) -> Dict[str, object]:
        before, after = template_of(self._first.workload), self._template
        keys = changed_keys(cleaned(before), cleaned(after))
        return {
            "before": _shown(self._first.situation, images_of(before), ()),
            "after": _shown(self.seen, images_of(after), keys),
        }

    def _cause(self, journal: Journal) -> str:
        if self._how.change_cause:
            return self._how.change_cause
        known = self.view.of(journal.to) if journal.state == KNOWN_GOOD else None
        if known and known.cause:
            return known.cause
        return f"release {journal.to}" + (f", rollout {journal.rollout}" if journal.rollout else "")

    def _stored_mark(self, revision: Revision) -> Optional[Release]:
        """The mark that is on the revision itself, not the one that the journal lends it."""
        return release_of(revision.raw)

    def _mark(self, revision: Revision, release: Release, more: Optional[Mapping[str, str]] = None) -> None:
        if not release.digest:
            release = replace(release, digest=digest_of(revision.template))
        self._steps.mark(revision, release, more)
        marked = replace(revision, release=release)
        rows = tuple(marked if each.name == revision.name else each for each in self.view.revisions)
        self.view = replace(self.view, revisions=rows, current=marked if self.view.current else None)
        self._know(release, instead=revision.id)

    def _know(self, release: Release, instead: str = "") -> None:
        """Put the release where it was, or first."""
        rows = [release if known.id in (release.id, instead) else known for known in self.seen.releases]
        rows = rows if release in rows else [release, *rows]
        current = release.id if instead and self.seen.current == instead else self.seen.current
        self.seen = replace(self.seen, releases=tuple(rows), current=current)


def _journal_note(journal: Journal, release: Optional[Release]) -> Dict[str, str]:
    """The journal alone; it keeps lending the release its name until the revision has the mark."""
    return {JOURNAL: workload_marks(journal, None, release)[JOURNAL]}


def _shown(seen: Situation, images: Mapping[str, str], keys: Tuple[str, ...]) -> Dict[str, object]:
    shown: Dict[str, object] = {
        "current": seen.current,
        "images": dict(images),
        "known_good": [release.id for release in seen.releases if release.known_good],
        "bad": [release.id for release in seen.releases if release.bad],
    }
    return {**shown, "changed_keys": list(keys)} if keys else shown
