# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves inside a cluster right now: the live pods of a workload, listed look after look over one connection."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

Row = Mapping[str, Any]
Lister = Callable[[], Sequence[Row]]


def lister(params: Mapping[str, object]) -> Lister:
    """For the options of the backend's module: a function that lists the pods now, as `kubernetes_rollout_info` does.

    It raises a PlaceError when the cluster cannot be asked.
    """
    if params.get("kind") == "Rollout":
        from ..argo.options import pod_lister

        return pod_lister(params)
    from .options import backend_of, live_pods

    backend = backend_of(params)
    return lambda: live_pods(backend, backend.steps.look())
