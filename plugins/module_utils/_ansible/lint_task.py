# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The task `gate_lint`: a policy in, what is wrong with it out."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

from .._errors import DeliveryError, OptionError
from .._judge.detect import expected_detection
from .._judge.lint import lint
from .._judge.lint_rules import ERROR
from .._judge.model import Probed
from .._judge.recovery import ratio_spec
from .._judge.selftest import BASE_SHARE
from .._judge.spec import GateSpec, Policy, RatioRule, parse_policy
from .._sense.ask import query_of
from .._sense.collect import probe
from .source_options import Spec, source_of, source_spec, targets_of, targets_spec

GATE_LINT: Spec = {
    **source_spec(required=False),
    **targets_spec(),
    "service": {"type": "str", "default": ""},
    "policy": {"type": "dict", "required": True},
    "places": {"type": "list", "elements": "str", "default": []},
    "canary": {"type": "list", "elements": "int", "default": []},
    "share": {"type": "float"},
    "later": {"type": "list", "elements": "str", "default": []},
    "probe": {"type": "bool", "default": True},
    "strict": {"type": "bool", "default": False},
}


def gate_lint(params: Mapping[str, object]) -> Dict[str, object]:
    policy = parse_policy(params["policy"], str(params["service"]))
    places = _places(params)
    listed = params["canary"]
    sizes = [int(size) for size in listed] if isinstance(listed, list) and listed else [-(-len(places) // 4)]
    probes = _probes(policy, params) if params["probe"] else None
    share, later = _share(params.get("share")), _names(params.get("later"))
    findings = lint(policy, places, sizes=sizes, probes=probes, share=share, later=later)
    errors = [finding for finding in findings if finding.level == ERROR or params["strict"]]
    return {
        "changed": False,
        "failed": bool(errors),
        "msg": " ".join(str(finding) for finding in findings) or "no findings",
        "findings": [finding.as_dict() for finding in findings],
        "errors": sum(finding.level == ERROR for finding in findings),
        "detection": _detection(policy, probes, len(places), min(sizes, default=0), share),
    }


def _share(given: object) -> Optional[float]:
    if given is None:
        return None
    share = float(given) if isinstance(given, (int, float)) else 0.0
    if not 0 < share < 1:
        raise OptionError(f"share is {given}, not between 0 and 1", mend="Write 5 % as 0.05")
    return share


def _names(given: object) -> List[str]:
    return [str(name) for name in given] if isinstance(given, list) else []


def _places(params: Mapping[str, object]) -> List[str]:
    targets = params["targets"]
    places = _names(params["places"])
    if not places and isinstance(targets, list):
        places = [str(target["place"]) for target in targets]
    if not places:
        raise OptionError(
            "no places are named", mend="Give places, or targets, such as the hosts of the service's group"
        )
    return places


def _probes(policy: Policy, params: Mapping[str, object]) -> Dict[str, Probed]:
    """What each gate's own source says; a source that cannot even be asked is a finding, not a crash."""
    probes: Dict[str, Probed] = {}
    given = params["source"] if isinstance(params["source"], Mapping) else None
    by_source: List[Tuple[Mapping[str, object], List[GateSpec]]] = []
    for gate in policy.gates:
        source = policy.source_of(gate)
        same = [gates for known, gates in by_source if known == source]
        if same:
            same[0].append(gate)
        else:
            by_source.append((source, [gate]))
    for source, gates in by_source:
        options = source_of(given, source)
        targets = targets_of(params["targets"] or params["places"], options)
        try:
            probes.update(probe(options, [query_of(gate) for gate in gates], targets))
        except DeliveryError as error:
            probes.update({gate.name: Probed(gate.name, exists=False, detail=error.what) for gate in gates})
    return probes


def _detection(
    policy: Policy, probes: Optional[Mapping[str, Probed]], places: int, size: int, share: Optional[float]
) -> Dict[str, Dict[str, Optional[float]]]:
    """How long the first step takes to tell good from bad, at the traffic that is expected or seen."""
    rates = [probed.rate for probed in (probes or {}).values() if probed.rate is not None]
    traffic = policy.traffic if policy.traffic is not None else max(rates, default=None)
    if not traffic or not size:
        return {}
    part = size / places if share is None else share
    return {
        gate.name: expected_detection(
            ratio_spec(policy, gate), traffic, part, baseline_rate=BASE_SHARE, places=places - size
        )
        for gate in policy.gates
        if isinstance(gate.rule, RatioRule)
    }
