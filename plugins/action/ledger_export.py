# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's entries for others, and room in it. See plugins/modules/ledger_export.py for the documentation."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from typing import List, Optional, Sequence, Tuple

from ansible_collections.selfheal.delivery.plugins.module_utils._act import durable
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, StoreError, TellError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import export
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.part import Part
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts, actor, now


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **LEDGER,
        "dest": {"type": "path", "required": True},
        "format": {"type": "str", "choices": list(export.FORMATS), "default": export.JSONL},
        "after": {"type": "int"},
        "prune_before": {"type": "str"},
        "source": {"type": "str", "default": export.SOURCE},
        "environment": {"type": "str", "default": ""},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        shape = export.Shape(options["format"], options["source"], options["environment"])
        age = Part("ledger_export", {"prune_before": options["prune_before"]}, ("prune_before",)).maybe_seconds(
            "prune_before"
        )
        dest, after = os.path.abspath(options["dest"]), options["after"]
        if age is not None and after is not None:
            raise OptionError("prune_before and after do not go together", mend="Prune by an export of everything")
        with closing(ledger_from(options, create=False)) as ledger:
            entries = list(ledger.all_entries())
            first, last = _held(dest, shape) if after is None else (None, None)
            if last is not None:
                export.follows(entries, last)
            start = last.seq if last is not None else after or 0
            new = list(export.lines(entries, shape, start))
            lines = [line for _entry, line in new]
            changed = bool(lines) if after is None else lines != _content(dest)
            if changed and not self.checking:
                _write(dest, lines, keep=last is not None)
            newest = new[-1][0] if new else last
            pruned = 0
            if age is not None and newest is not None:
                _may_prune(ledger, entries, first or new[0][0])
                pruned = self._prune(ledger, entries, now() - age, newest, task_vars)
        told = _told(dest, start, [entry for entry, _line in new], newest, pruned)
        return {**told, "changed": changed or bool(pruned)}

    def _prune(self, ledger: Ledger, entries: Sequence[Entry], before: float, newest: Entry, task_vars: Facts) -> int:
        """How many entries were removed, or in check mode would be at most."""
        if self.checking:
            return sum(entry.at < before for entry in entries[:-1])
        removed = ledger.prune(before, newest.hash, actor(task_vars), now())
        count = removed.body.get("removed") if removed is not None else 0
        return count if isinstance(count, int) else 0


def _held(dest: str, shape: export.Shape) -> Tuple[Optional[Entry], Optional[Entry]]:
    """The first and the last entry that the file holds already."""
    first = last = ""
    try:
        with open(dest, encoding="utf-8") as file:
            for line in file:
                first, last = first or line, line
    except FileNotFoundError:
        return None, None
    except (OSError, UnicodeDecodeError) as error:
        raise TellError(f"The export {dest} cannot be read: {error}", mend="Name another file") from None
    if not first:
        return None, None
    try:
        return export.kept(first, shape), export.kept(last, shape)
    except OptionError as error:
        raise OptionError(f"{dest}: {error.what}", mend=error.mend) from None


def _content(dest: str) -> Optional[List[str]]:
    """The file's lines; None when it is not there, or holds something else than text."""
    try:
        with open(dest, encoding="utf-8") as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return None


def _write(dest: str, lines: List[str], *, keep: bool) -> None:
    """Replace the file by what it holds, if that is kept, and `lines`; or leave it as it was."""
    aside = f"{dest}.new"
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            if keep:
                with open(dest, "rb") as there:
                    shutil.copyfileobj(there, stream)
            stream.writelines(f"{line}\n".encode() for line in lines)
            stream.flush()
            os.fsync(stream.fileno())
        if os.path.exists(dest):
            shutil.copymode(dest, aside)
        os.replace(aside, dest)
        durable.sync(os.path.dirname(dest))
    except OSError as error:
        durable.remove(aside)
        raise TellError(
            f"The export {dest} cannot be written: {error.strerror}", mend="Make room, or name another file"
        ) from None


def _may_prune(ledger: Ledger, entries: Sequence[Entry], first: Entry) -> None:
    """Nothing leaves a ledger that is not whole, nor what this export does not hold."""
    problem = ledger.verify()
    if problem is not None:
        raise StoreError(problem.rstrip("."), mend="Nothing is pruned from it: keep it as it is")
    if first.seq > entries[0].seq:
        raise OptionError(
            f"The export begins with entry {first.seq}, and the ledger with entry {entries[0].seq}",
            mend="Export to a new file, which then begins where the ledger does",
        )


def _told(dest: str, start: int, new: Sequence[Entry], newest: Optional[Entry], pruned: int) -> Facts:
    last = newest.seq if newest is not None else start
    return {
        "dest": dest,
        "exported": len(new),
        "last": last,
        "head": newest.hash if newest is not None else "",
        "pruned": pruned,
        "diff": {"before": {"last": start}, "after": {"last": last}, "before_header": dest, "after_header": dest},
        "msg": f"{len(new)} entries exported to {dest}, up to entry {last}; {pruned} removed from the ledger",
    }
