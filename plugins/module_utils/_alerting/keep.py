# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration file on the machine of Prometheus or Alertmanager: checked, written whole, and read again by them.

Either what runs has read the file, or the file is what it was. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from subprocess import TimeoutExpired
from typing import Callable, Dict, List, Mapping, Optional

from .._act.durable import make_folder, remove, write_text
from .._act.process import answered
from .._errors import OptionError, PlaceError

MARK = "# Made by selfheal.delivery."
# kind -> the program that checks it, and its words
CHECKERS: Mapping[str, List[str]] = {
    "rules": ["promtool", "check", "rules"],
    "alertmanager": ["amtool", "check-config"],
}
_SECONDS = 60.0  # that a check may take
_SAID = 600  # characters of what a checker says that are shown
Reload = Callable[[], None]  # raises PlaceError when what runs has not read the file


@dataclass(frozen=True)
class Wanted:
    """The file, and how it is checked. `kind` is one of CHECKERS; without `checker` the PATH is searched.

    Where it is `secret`, neither its text nor what the checker says of it is told, and a new file is for its owner and
    group alone.
    """

    path: str
    text: str
    kind: str
    checker: str = ""
    must_check: bool = False
    secret: bool = False
    force: bool = False


def keep(
    wanted: Wanted, *, checking: bool, env: Mapping[str, str], reload: Optional[Reload] = None
) -> Dict[str, object]:
    """Bring the file there, and say what was done, JSON-safe.

    Raises OptionError or PlaceError, and then nothing has changed.
    """
    text = wanted.text if wanted.text.startswith(MARK) else f"{MARK}alert_file. Do not edit.\n{wanted.text}"
    real = os.path.realpath(wanted.path)
    before = _read(real)
    if before and not before.startswith(MARK) and not wanted.force:
        raise OptionError(
            f"{wanted.path} was written by somebody else", mend="Name another path, or set force to replace it"
        )
    program = _checked(wanted, real, text, env)
    changed = before != text
    if changed and not checking:
        _bring(real, text, before, wanted.secret, reload)
    told: Dict[str, object] = {
        "changed": changed,
        "path": wanted.path,
        "checked_by": program,
        "reloaded": changed and not checking and reload is not None,
    }
    if not program:
        told["warnings"] = [f"{wanted.path} was not checked: {CHECKERS[wanted.kind][0]} is not on the PATH"]
    return {**told, "diff": _diff(wanted, before or "", text)} if changed else told


def _read(path: str) -> Optional[str]:
    """What is there; None where there is nothing."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise OptionError(f"{path} holds no text", mend="Remove it, or name another path") from None
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}", mend="Name a file in path") from None


def _checked(wanted: Wanted, real: str, text: str, env: Mapping[str, str]) -> str:
    """The program that found the text to be right, or nothing where there is none; OptionError when it is wrong."""
    name, *words = CHECKERS[wanted.kind]
    program = shutil.which(wanted.checker or name, path=env.get("PATH"))
    if program is None:
        if wanted.checker or wanted.must_check:
            what = f"{wanted.checker or name} is not there, or no program"
            raise OptionError(what, mend=f"Install {name}, or name it in checker")
        return ""
    # beside the file, because Alertmanager's templates are named from there; Prometheus would read it as rules there
    folder = os.path.dirname(real)
    beside = folder if wanted.kind == "alertmanager" and os.access(folder, os.W_OK) else None
    handle, aside = tempfile.mkstemp(prefix=".selfheal-", suffix=".check", dir=beside)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        answer = answered([program, *words, aside], env=env, seconds=_SECONDS)
    except TimeoutExpired:
        raise PlaceError(f"{program} did not end within {_SECONDS:g} s", mend="Look at the machine's load") from None
    except OSError as error:
        raise OptionError(f"{program} could not be asked: {error.strerror}", mend="Correct checker") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)
    if answer.returncode:
        said = " ".join(f"{answer.stdout} {answer.stderr}".replace(aside, wanted.path).split())
        if wanted.secret:
            said = "what it says is not shown, because it may hold a secret"
        raise OptionError(f"{program} finds {wanted.path} wrong: {said[:_SAID]}", mend="Nothing was changed")
    return program


def _bring(path: str, text: str, before: Optional[str], secret: bool, reload: Optional[Reload]) -> None:
    """Write it, and have it read; when it is not, the file is as before."""
    _write(path, text, secret)
    if reload is None:
        return
    try:
        reload()
    except PlaceError:
        if before is None:
            remove(path)
        else:
            _write(path, before, secret)
        with suppress(PlaceError):  # so that nobody is told of a failed reload for ever
            reload()
        raise


def _write(path: str, text: str, secret: bool) -> None:
    mask = os.umask(0o027 if secret else 0o022)
    try:
        make_folder(os.path.dirname(path))
        write_text(path, text)
    except OSError as error:
        mend = "Run this as a user who may write there (become), or make room"
        raise PlaceError(f"{path} could not be written: {error.strerror}", mend=mend) from None
    finally:
        os.umask(mask)


def _diff(wanted: Wanted, before: str, after: str) -> Dict[str, str]:
    # what was there may have been somebody else's, or made of a configuration with secrets
    if before and (wanted.kind == "alertmanager" or not before.startswith(MARK)):
        before = "(not shown: it may hold secrets)\n"
    if wanted.secret:
        after = "(changed, and not shown: it may hold secrets)\n"
    return {"before": before, "after": after, "before_header": wanted.path, "after_header": wanted.path}
