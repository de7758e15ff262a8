# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam between the bake and its gates: every kind of gate is fed looks, keeps a state, and says a verdict."""

from __future__ import annotations

from typing import Dict, Mapping, Protocol

from .model import Arms, GateLook, Verdict


class Gate(Protocol):
    """One gate of one rollout. `state` and `restore` are JSON-safe, so that a bake survives its controller."""

    @property
    def name(self) -> str: ...

    def observe(self, look: GateLook, arms: Arms, elapsed: float) -> Verdict:
        """Take in one look (never twice the same) and say where the gate stands now."""

    def state(self) -> Dict[str, object]: ...

    def restore(self, state: Mapping[str, object]) -> None: ...
