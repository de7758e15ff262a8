# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many observations of a histogram lie above an edge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterable, Iterator, Optional, Protocol, Sequence, Tuple


@dataclass(frozen=True)
class Bucket:
    """`count` observations between `lower` and `upper`."""

    lower: float
    upper: float
    count: float


class Native(Protocol):
    """A native histogram as prometheus_client reads it (spans and deltas of exponential buckets)."""

    @property
    def count_value(self) -> float: ...
    @property
    def schema(self) -> int: ...
    @property
    def zero_threshold(self) -> float: ...
    @property
    def zero_count(self) -> float: ...
    @property
    def pos_spans(self) -> Optional[Sequence[Tuple[int, int]]]: ...
    @property
    def pos_deltas(self) -> Optional[Sequence[int]]: ...


def same_edge(label: str, edge: float) -> bool:
    """Does the `le` label (`0.3`, `1`, `1.0`, `3e-01`) stand for `edge`?"""
    try:
        return math.isclose(float(label), edge, rel_tol=1e-9)
    except ValueError:
        return False


def native_buckets(native: Native) -> Iterator[Bucket]:
    """The zero bucket and the positive ones: index i covers (b^(i-1), b^i] with b = 2^(2^-schema).

    https://prometheus.io/docs/specs/native_histograms/#schema
    """
    base = 2.0 ** (2.0**-native.schema)
    yield Bucket(0.0, native.zero_threshold, float(native.zero_count))
    index, count = 0, 0
    deltas = iter(native.pos_deltas or ())
    for offset, length in native.pos_spans or ():
        index += offset
        for _bucket in range(length):
            count += next(deltas, 0)
            yield Bucket(base ** (index - 1), base**index, float(count))
            index += 1


def above(buckets: Iterable[Bucket], edge: float) -> float:
    """The observations above `edge`; within the bucket that holds it, as PromQL's histogram_fraction interpolates."""
    return sum(bucket.count * (1.0 - _share_below(bucket, edge)) for bucket in buckets)


def _share_below(bucket: Bucket, edge: float) -> float:
    lower, upper = bucket.lower, bucket.upper
    if edge >= upper:
        return 1.0
    if edge <= lower:
        return 0.0
    if lower > 0 and math.isfinite(upper):
        return math.log(edge / lower) / math.log(upper / lower)
    return (edge - lower) / (upper - lower) if math.isfinite(upper) else 0.0
