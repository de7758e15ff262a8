# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading back what a gate stored: JSON as it comes, made into numbers again. What is not there keeps its default."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence


def number(raw: object, default: float = 0.0) -> float:
    return float(raw) if isinstance(raw, (int, float)) else default


def maybe(raw: object) -> Optional[float]:
    return float(raw) if isinstance(raw, (int, float)) else None


def numbers(raw: object) -> List[float]:
    return [number(item) for item in rows(raw)]


def rows(raw: object) -> Sequence[object]:
    return raw if isinstance(raw, Sequence) and not isinstance(raw, str) else ()


def table(raw: object) -> Mapping[str, object]:
    return raw if isinstance(raw, Mapping) else {}


def counted(raw: object) -> Dict[str, float]:
    return {str(key): number(value) for key, value in table(raw).items()}
