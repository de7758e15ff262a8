# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The task `metric_gate`: options in, the verdict of one look out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Dict, List, Mapping, Sequence

from .._errors import OptionError, nearest
from .._judge.model import Arms, GateLook, Verdict
from .._judge.once import judge_once
from .._judge.spec import parse_policy
from .._sense.ask import query_of
from .._sense.model import EVERYTHING
from .._sense.once import look_once
from .source_options import Spec, source_of, source_spec, targets_of, targets_spec

METRIC_GATE: Spec = {
    **source_spec(),
    **targets_spec(),
    "gate": {"type": "dict", "required": True},
    "canary": {"type": "list", "elements": "str", "default": []},
    "baseline": {"type": "list", "elements": "str", "default": []},
    "window": {"type": "float", "default": 0.0},
    "preset": {"type": "str", "choices": ["careful", "balanced", "fast"], "default": "balanced"},
    "fail_on": {"type": "list", "elements": "str", "choices": ["fail", "inconclusive"], "default": []},
}


def metric_gate(params: Mapping[str, object]) -> Dict[str, object]:
    begun = time.monotonic()
    given = params["source"]
    source = source_of(given if isinstance(given, Mapping) else {})
    policy = parse_policy({"source": {"type": source.type}, "preset": params["preset"], "gates": [params["gate"]]}, "")
    gate = policy.gates[0]
    if gate.ask.source is not None:
        raise OptionError(f"gate {gate.name!r} has a source of its own", mend="Name it as this task's source")
    targets = targets_of(params["targets"], source)
    arms = _arms(params, [target.place for target in targets] or [EVERYTHING])
    window = params["window"]
    look = look_once(source, query_of(gate), targets, window=window if isinstance(window, float) else 0.0)
    verdict = replace(judge_once(policy, gate, look, arms), took=time.monotonic() - begun)
    absent = {place: {"reason": told.reason, "detail": told.detail} for place, told in look.absent.items()}
    failed = verdict.verdict in _names(params["fail_on"])
    return {"changed": False, "failed": failed, "msg": _words(verdict, look), "absent": absent, **verdict.as_dict()}


def _arms(params: Mapping[str, object], places: Sequence[str]) -> Arms:
    baseline = _names(params["baseline"])
    canary = _names(params["canary"]) or [place for place in places if place not in baseline]
    for place in (*canary, *baseline):
        if place not in places:
            raise OptionError(f"{place!r} is none of the targets{nearest(place, places)}", mend="List it in targets")
    both = sorted(set(canary) & set(baseline))
    if both or not canary:
        wrong = f"{', '.join(both)} is both canary and baseline" if both else "no place is left to be judged"
        raise OptionError(wrong, mend="A place is on one side or on the other")
    return Arms(tuple(canary), tuple(baseline))


def _names(raw: object) -> List[str]:
    return [str(name) for name in raw] if isinstance(raw, (list, tuple)) else []


def _words(verdict: Verdict, look: GateLook) -> str:
    """`errors fails: 0.048 of 812 requests, limit 0.01`."""
    if verdict.value is None:
        details = [told.detail for told in look.absent.values() if told.detail]
        return f"{verdict.gate} is inconclusive: {details[0] if details else verdict.reason.replace('_', ' ')}"
    said = {"pass": "passes", "fail": "fails"}.get(verdict.verdict, f"is {verdict.reason.replace('_', ' ')}")
    requests = f" of {verdict.samples['canary']:.0f} requests" if "baseline_bad" in verdict.samples else ""
    against = [
        f"{name} {number:.4g}"
        for name, number in (("limit", verdict.limit), ("baseline", verdict.baseline))
        if number is not None
    ]
    return f"{verdict.gate} {said}: {', '.join([f'{verdict.value:.4g}{requests}', *against])}"
