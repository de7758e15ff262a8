# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a policy's gates to what each source is asked: gates that share a source are asked together."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

from .._judge.spec import GateSpec, Policy
from .collect import Sampler
from .model import Query, Target, Targets
from .options import parse_source


@dataclass(frozen=True)
class Asked:
    """One source with the gates that it answers. `source` is the mapping as the user wrote it."""

    source: Mapping[str, object]
    queries: Tuple[Query, ...]
    targets: Targets

    def sampler(self) -> Sampler:
        return Sampler(parse_source(self.source, os.environ), self.queries, self.targets)

    def as_options(self) -> Dict[str, object]:
        """The same question as options of module `metric_info`, for a gate host."""
        return {
            "source": dict(self.source),
            "queries": [_given(query) for query in self.queries],
            "targets": [_given(target) for target in self.targets],
        }


def _given(thing: Union[Query, Target]) -> Dict[str, object]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(thing).items() if value}


def query_of(gate: GateSpec) -> Query:
    ask = gate.ask
    return Query(gate.name, ask.bad, ask.total, ask.histogram, ask.over, ask.value, ask.timeout)


def asked(policy: Policy, targets: Sequence[Mapping[str, Any]]) -> List[Asked]:
    """Every source of the policy once. `targets` are mappings with `place`, `urls` and `instance`."""
    named = tuple(Target(str(t["place"]), tuple(t.get("urls") or ()), str(t.get("instance") or "")) for t in targets)
    sources: Dict[str, Tuple[Mapping[str, object], List[Query]]] = {}
    for gate in policy.gates:
        source = policy.source_of(gate)
        key = json.dumps(source, sort_keys=True, default=str)
        sources.setdefault(key, (source, []))[1].append(query_of(gate))
    return [Asked(source, tuple(queries), named) for source, queries in sources.values()]
