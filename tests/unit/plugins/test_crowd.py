# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which live pods have the release, and which of the others there is something to compare with."""

from __future__ import annotations

from typing import Dict, List

from ansible_collections.selfheal.delivery.plugins.plugin_utils._pods import Crowd, Lister


def listers(**places: Dict[str, str]) -> Dict[str, Lister]:
    """Pods by place, each with its release."""
    rows: Dict[str, List[Dict[str, object]]] = {
        place: [{"name": name, "release": release, "ready": True} for name, release in pods.items()]
        for place, pods in places.items()
    }
    return {place: lambda told=told: told for place, told in rows.items()}  # type: ignore[misc]


def test_the_others_are_the_baseline_but_where_all_requests_were_switched_away_from_them() -> None:
    both = listers(eu={"blue": "1", "green": "2"}, us={"blue": "1"})
    assert Crowd(both, "2", print).cast() == (("eu/green",), ("eu/blue", "us/blue"))
    assert Crowd(both, "2", print, switched=True).cast() == (("eu/green",), ("us/blue",))
    back = listers(eu={"blue": "1"})
    assert Crowd(back, "2", print, switched=True).cast() == ((), ("blue",))
