# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks `error_code_lint` and `error_code_gate`: options in, what is wrong, or whether a code counts, out."""

from __future__ import annotations

import time
from typing import Dict, List, Mapping, Optional, Tuple

from .._codes.ask import Figures, Question, ask, no_figures
from .._codes.catalogue import load, read_text
from .._codes.committed import NotInGit, committed
from .._codes.lint import errors, lint
from .._codes.model import METRIC, WARNING, Alerting, Code, Problem
from .._codes.since import Since, Tally, judge_since
from .._errors import OptionError
from .._judge.model import FAIL, INCONCLUSIVE, PASS, finite
from .._sense.client import NoAnswer
from .source_options import Spec, source_of, source_spec

ERROR_CODE_LINT: Spec = {
    "catalogue": {"type": "path", "required": True},
    "against_ref": {"type": "str", "default": ""},
    "against_file": {"type": "path"},
    "reworded": {"type": "list", "elements": "str", "default": []},
    "strict": {"type": "bool", "default": False},
}
ERROR_CODE_GATE: Spec = {
    **source_spec(),
    "code": {"type": "str", "required": True},
    "service": {"type": "str", "required": True},
    "environment": {"type": "str", "required": True},
    "changed_at": {"type": "float", "required": True},
    "catalogue": {"type": "path"},
    "metric": {"type": "str", "default": METRIC},
    "total": {"type": "str", "default": ""},
    "before": {"type": "float", "default": 3600.0},
    "after": {"type": "float", "default": 3600.0},
    "recent": {"type": "float", "default": 300.0},
    "ratio": {"type": "float"},
    "min_count": {"type": "int"},
    "fail_on": {"type": "list", "elements": "str", "choices": ["fail", "inconclusive"], "default": []},
}


def error_code_lint(params: Mapping[str, object]) -> Dict[str, object]:
    path = str(params["catalogue"])
    text = read_text(path)
    previous, compared, problems = _previous(path, params)
    problems = [*problems, *lint(text, path, previous, reworded=_texts(params["reworded"]))]
    wrong = problems if params["strict"] else errors(problems)
    return {
        "changed": False,
        "failed": bool(wrong),
        "msg": f"{path}: " + (" ".join(str(problem) for problem in problems) or "no problems"),
        "problems": [problem.as_dict() for problem in problems],
        "errors": len(errors(problems)),
        "compared": compared,
    }


def _previous(path: str, params: Mapping[str, object]) -> Tuple[Optional[str], str, List[Problem]]:
    """The text to hold the catalogue against, what it is, and what is to be said where there is none."""
    ref, file = str(params["against_ref"]), params["against_file"]
    if ref and file:
        raise OptionError("both against_ref and against_file are given", mend="Give one of them")
    if file:
        return read_text(str(file)), str(file), []
    try:
        previous = committed(path, ref)
    except NotInGit as error:
        said = Problem(1, "codes", "not_compared", error.what, error.mend, WARNING)
        return None, "", [said]
    return previous, (ref or "HEAD") if previous is not None else "", []


def error_code_gate(params: Mapping[str, object]) -> Dict[str, object]:
    code = load(str(params["catalogue"])).code(str(params["code"])) if params["catalogue"] else None
    given = params["source"]
    source = source_of(given if isinstance(given, Mapping) else {})
    question = _question(params)
    now = time.time()
    detail = ""
    figures = Figures((), {}, "")
    try:
        figures = ask(source, question, now)
    except NoAnswer as error:
        reason, detail = no_figures(error)
        since = Since(INCONCLUSIVE, reason)
    else:
        ratio, min_count = _alerting(params, code)
        since = judge_since(figures.tallies[0], figures.tallies[1:], ratio=ratio, min_count=min_count)
    told: Dict[str, object] = {
        name: {**tally.as_dict(), "from": begin, "to": end}
        for name, tally, (begin, end) in zip(("before", "after", "recent"), figures.tallies, question.stretches(now))
    }
    attributable = None if code is None else code.attributable
    return {
        "changed": False,
        "failed": since.verdict in _texts(params["fail_on"]),
        "msg": _words(question, since, figures, detail),
        "code": question.code,
        "verdict": since.verdict,
        "reason": since.reason,
        "counts": since.counts and attributable is not False,
        "attributable": attributable,
        "chance": finite(since.chance),
        "unit": figures.unit,
        "versions": figures.versions,
        **{name: told.get(name) for name in ("before", "after", "recent")},
    }


def _question(params: Mapping[str, object]) -> Question:
    texts = {key: str(params[key]) for key in ("code", "service", "environment", "metric", "total")}
    for key in ("code", "service", "environment", "metric"):
        if not texts[key].strip():
            raise OptionError(f"{key} is empty", mend=f"An empty {key} is never everything: name it")
    times = {key: _positive(params, key) for key in ("changed_at", "before", "after", "recent")}
    return Question(**texts, **times)  # type: ignore[arg-type]


def _positive(params: Mapping[str, object], key: str) -> float:
    value = params[key]
    if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise OptionError(f"{key} must be a number of seconds above 0, not {value}", mend=f"Correct {key}")
    return float(value)


def _alerting(params: Mapping[str, object], code: Optional[Code]) -> Tuple[float, int]:
    """The task's own figures, else the code's, else the usual ones."""
    usual = code.alerting if code is not None else Alerting()
    ratio, min_count = params["ratio"], params["min_count"]
    told = float(ratio) if isinstance(ratio, (int, float)) else usual.ratio
    least = int(min_count) if isinstance(min_count, (int, float)) else usual.min_count
    if not 1.0 <= told < float("inf") or least < 1:
        raise OptionError(f"ratio {told:g} or min_count {least} is below 1", mend="Give at least 1 for both")
    return told, least


def _texts(raw: object) -> List[str]:
    return [str(text) for text in raw] if isinstance(raw, (list, tuple)) else []


def _words(question: Question, since: Since, figures: Figures, detail: str) -> str:
    """`SHOP-CART-001 of production/shop is raised since the deploy: 3 in 3600 seconds before, 40 in 300 since`."""
    said = f"{question.code} of {question.environment}/{question.service}"
    if len(figures.tallies) < 2 or since.reason == "no_data":
        why = detail or "the metrics server has nothing of this service, or nothing of the time before the deploy"
        return f"{said} is inconclusive: {why}"
    before, after = (_shown(tally, figures.unit) for tally in figures.tallies[:2])
    state = {FAIL: f"is {since.reason}", PASS: "is not raised"}.get(
        since.verdict, f"is inconclusive ({since.reason.replace('_', ' ')})"
    )
    return f"{said} {state} since the deploy: {before} before, {after} since"


def _shown(tally: Tally, unit: str) -> str:
    return f"{tally.count:.0f} in {tally.exposure:.0f} {unit}"
