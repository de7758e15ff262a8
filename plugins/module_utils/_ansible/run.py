# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where a module's work ends: its result, a `DeliveryError` in clear words, or a bug without a secret."""

from __future__ import annotations

import gc
import os
import traceback
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Tuple, Type

from ansible.module_utils.basic import AnsibleModule

from .._errors import DeliveryError

Work = Callable[[AnsibleModule], Mapping[str, object]]


def run(module: AnsibleModule, work: Work) -> NoReturn:
    """Exit with what `work` returns, or fail with what went wrong and what to do next."""
    failed: Dict[str, object] = {}
    try:
        result = dict(work(module))
    except Exception as error:
        failed = failure(error)
    _leave_garbage()
    if failed:
        # not inside the except block, from which fail_json takes the error's own text and trace
        module.fail_json(str(failed["msg"]), service=failed["service"], details=failed["details"])
    module.exit_json(**result)


def run_change(module: AnsibleModule, work: Work) -> NoReturn:
    """`run` for what changes a place: warnings are told, and a change that failed halfway still says what runs now."""
    result = told(lambda: work(module))
    warnings = result.pop("warnings", ())
    for warning in warnings if isinstance(warnings, (list, tuple)) else ():
        module.warn(str(warning))
    _leave_garbage()
    if result.pop("failed", False):
        module.fail_json(str(result.pop("msg")), **result)
    module.exit_json(**result)


def told(work: Callable[[], Mapping[str, object]], passing: Tuple[Type[Exception], ...] = ()) -> Dict[str, Any]:
    """What a change gave, or `failed`, why, and what runs now. Errors of the kinds `passing` are not caught."""
    try:
        return dict(work())
    except passing:
        raise
    except Exception as error:
        failed = failure(error)
    details = failed["details"]
    return {**(details if isinstance(details, dict) else {}), "failed": True, "msg": failed["msg"]}


def _leave_garbage() -> None:
    """Only the result is waited for, but at its end Python would first look for garbage in all that was loaded.

    With the kubernetes library that takes 0.1 s, and nothing has to be freed by a process that ends.
    """
    gc.freeze()


def failure(error: Exception) -> Dict[str, object]:
    """`msg`, `service` and `details` of an error, for `fail_json` or an action's failed result."""
    if isinstance(error, DeliveryError):
        return {"msg": error.message, "service": error.service, "details": error.details}
    if isinstance(error, ImportError):
        mend = "Install it for the Python that runs this task, on the controller by default"
        library = (error.name or "it needs").split(".")[0]
        return {"msg": f"the Python library {library} is missing. {mend}.", "service": "", "details": {}}
    # the text of an unexpected error may hold anything, also a URL with a password: only where it came from is told
    bug = f"unexpected {type(error).__name__}: this is a bug in selfheal.delivery"
    return {
        "msg": f"{bug}. Please report it with its trace.",
        "service": "",
        "details": {"trace": trace(error)},
    }


def trace(error: BaseException) -> List[str]:
    """Where an error came from, innermost last, without any value."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}" for frame in frames]
