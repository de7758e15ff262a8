# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The task `metric_info`: options in, a sample out."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

from .._errors import OptionError
from .._sense.collect import collect
from .._sense.model import Query
from .source_options import Spec, source_of, source_spec, targets_of, targets_spec

_QUERY: Spec = {
    "gate": {"type": "str", "required": True},
    "bad": {"type": "str"},
    "total": {"type": "str"},
    "histogram": {"type": "str"},
    "over": {"type": "float"},
    "value": {"type": "str"},
    "timeout": {"type": "float", "default": 5.0},
}
METRIC_INFO: Spec = {
    **source_spec(),
    **targets_spec(),
    "queries": {"type": "list", "elements": "dict", "required": True, "options": _QUERY},
}


def metric_info(params: Mapping[str, object]) -> Dict[str, object]:
    source = source_of(_mapping(params["source"]))
    queries = [query_of(_mapping(raw)) for raw in _list(params["queries"])]
    twins = sorted({q.gate for q in queries if [other.gate for other in queries].count(q.gate) > 1})
    if not queries or twins:
        raise OptionError(f"queries name {', '.join(twins)} more than once" if twins else "there are no queries")
    sample = collect(source, queries, targets_of(params["targets"], source))
    return {"changed": False, "sample": sample.as_dict()}


def query_of(raw: Mapping[str, object]) -> Query:
    """A query as people write it; raises OptionError when it asks for nothing, or for two things."""
    texts = {key: str(raw.get(key) or "").strip() for key in ("gate", "bad", "total", "histogram", "value")}
    query = Query(over=_maybe(raw.get("over")), timeout=_maybe(raw.get("timeout")) or 5.0, **texts)
    kinds = [bool(query.bad or query.total), bool(query.histogram), bool(query.value)]
    if kinds.count(True) != 1 or bool(query.bad) != bool(query.total) or (query.over is None) == bool(query.histogram):
        raise OptionError(
            f"query {query.gate!r} is not one question", mend="Give bad and total, or histogram and over, or value"
        )
    return query


def _maybe(raw: object) -> Optional[float]:
    return float(raw) if isinstance(raw, (int, float)) else None


def _mapping(raw: object) -> Mapping[str, object]:
    return raw if isinstance(raw, Mapping) else {}


def _list(raw: object) -> List[object]:
    return list(raw) if isinstance(raw, (list, tuple)) else []
