# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop in a namespace of the testbed, released by ansible-playbook, and what pods say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from kube_api import Doc
from service_site import ServiceSite

SERVICE = "test/shop"


class KubeShop(ServiceSite):
    """`places` are such as a namespace each; by default it is one, `eu`."""

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        policy: Mapping[str, Any],
        places: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(folder, env, "shop", policy, places or {"eu": {}})


def uids(pods: Sequence[Doc]) -> Dict[str, str]:
    """The pods' uids by name: the same pods have the same ones."""
    return {str(pod["metadata"]["name"]): str(pod["metadata"]["uid"]) for pod in pods}


def images(pods: Sequence[Doc]) -> List[str]:
    return sorted({str(pod["spec"]["containers"][0]["image"]) for pod in pods})
