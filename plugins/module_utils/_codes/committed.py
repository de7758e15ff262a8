# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of a catalogue that was committed last, out of the git repository that the file lies in."""

from __future__ import annotations

import os
import subprocess
from typing import Optional, Sequence

from .._act.git.repository import environment
from .._act.process import Answer, answered
from .._errors import OptionError

SECONDS = 20.0  # for each question to git, which asks nobody else
_LONGEST = 200


class NotInGit(OptionError):
    """The file lies in no git repository, or one without a commit."""


def committed(path: str, ref: str = "") -> Optional[str]:
    """The text of the file at `ref`, by default at HEAD; None where that commit does not have the file.

    Raises NotInGit where there is nothing to ask and no `ref` was named, OptionError for anything else.
    """
    here, name = os.path.split(os.path.realpath(path))
    found = _git(here, ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref or 'HEAD'}^{{commit}}"])
    # anything else that git has against it, such as a foreign owner, must not pass for "nothing to compare with"
    if found.returncode and not ref and (found.returncode == 1 or "not a git repository" in found.stderr):
        raise NotInGit(f"{path} lies in no git repository with a commit", mend="Name a file in against_file")
    if found.returncode:
        said = _said(found)
        why = f": {said}" if said else ""
        raise OptionError(
            f"git finds no commit {(ref or 'HEAD')[:60]!r} where {path} lies{why}",
            mend="Correct against_ref, or what git says",
        )
    commit = found.stdout.strip()
    listed = _right(_git(here, ["ls-tree", "--name-only", commit, "--", name]), path)
    if not listed:
        return None
    return _right(_git(here, ["show", "--no-textconv", f"{commit}:./{name}"]), path)


def _git(folder: str, words: Sequence[str]) -> Answer:
    try:
        return answered(["git", *words], env=environment(""), seconds=SECONDS, folder=folder)
    except FileNotFoundError:
        raise OptionError(
            "git is not installed where this task runs", mend="Install git, or use against_file"
        ) from None
    except subprocess.TimeoutExpired:
        raise OptionError(f"git took over {SECONDS:g} s in {folder}", mend="See what holds it, and try again") from None


def _right(answer: Answer, path: str) -> str:
    if answer.returncode:
        raise OptionError(f"git cannot read {path}: {_said(answer)}", mend="See what git says of it there")
    return str(answer.stdout)


def _said(answer: Answer) -> str:
    return " ".join(str(answer.stderr).split())[:_LONGEST]
