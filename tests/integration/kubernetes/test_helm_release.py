# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend helm: the real helm on a real API server, with a chart of one Deployment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from cluster import Cluster
from go_tool import go_tool

from ansible_collections.selfheal.delivery.plugins.module_utils._act import helm_options
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    FencedError,
    OptionError,
    PlaceError,
)

SECRET = "hunter2-correct-horse"
TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      containers:
        - name: shop
          image: "shop:{{ .Values.tag }}"
          env: [{name: PASSWORD, value: {{ .Values.password | quote }}}]
"""
DEFAULTS: Dict[str, Any] = {
    "state": "deployed",
    "undo": False,
    "keep": 5,
    "wait": True,
    "timeout": 20.0,
    "pending_timeout": 600.0,
    "history_max": 10,
}


class Shop:
    """The Helm release `shop` in a namespace of the test's own; `do` is what the module does with these options."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.chart = folder / "shop-chart"
        (self.chart / "templates").mkdir(parents=True)
        about = {"apiVersion": "v2", "name": "shop", "version": "0.1.0", "appVersion": "1.0"}
        (self.chart / "Chart.yaml").write_text(json.dumps(about))
        (self.chart / "values.yaml").write_text(json.dumps({"tag": "none", "replicas": 1, "password": ""}))
        (self.chart / "templates/shop.yaml").write_text(TEMPLATE)
        self.where = {"name": "shop", "namespace": namespace, "kubeconfig": str(cluster.kubeconfig)}
        self.binary = go_tool("helm")

    def do(self, *, dry: bool = False, **given: Any) -> Dict[str, Any]:
        params = {**DEFAULTS, **self.where, "binary_path": str(self.binary), **given}
        values = params.get("values")
        if isinstance(values, dict):
            params["values"] = json.dumps(values)
        return helm_options.change(params, dry=dry)

    def deploy(self, release: str, **given: Any) -> Dict[str, Any]:
        values = {"tag": given.pop("tag", release), **given.pop("values", {})}
        return self.do(release=release, chart=str(self.chart), values=values, **given)

    def promote(self, release: str, **given: Any) -> Dict[str, Any]:
        return self.do(release=release, state="promoted", **given)

    def good(self, release: str, **given: Any) -> Dict[str, Any]:
        self.deploy(release, **given)
        return self.promote(release)

    def back(self, **given: Any) -> Dict[str, Any]:
        return self.do(state="known_good", **given)

    def info(self, **given: Any) -> Dict[str, Any]:
        return helm_options.look({**self.where, "binary_path": str(self.binary), **given})

    def helm(self, *words: str) -> str:
        """Somebody else's helm."""
        command = [str(self.binary), *words, "-n", self.namespace, "--kubeconfig", str(self.cluster.kubeconfig)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def upgrade_by_hand(self, tag: str) -> None:
        self.helm("upgrade", "--install", "shop", str(self.chart), "--set", f"tag={tag}")

    def kill_helm(self, tag: str, *, labels: str = "") -> None:
        """A helm that is killed while it waits, and leaves its revision pending."""
        command = [str(self.binary), "upgrade", "--install", "shop", str(self.chart), "--set", f"tag={tag}", "--wait"]
        command += ["-n", self.namespace, "--kubeconfig", str(self.cluster.kubeconfig)]
        command += ["--labels", labels] if labels else []
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                self.cluster.wait(lambda: self.image() == f"shop:{tag}", f"helm applied {tag}")
            finally:
                process.kill()

    def image(self) -> str:
        found = self.cluster.list(f"/apis/apps/v1/namespaces/{self.namespace}/deployments")
        return str(found[0]["spec"]["template"]["spec"]["containers"][0]["image"]) if found else ""

    def history(self) -> List[Dict[str, Any]]:
        rows: List[Dict[str, Any]] = json.loads(self.helm("history", "shop", "-o", "json"))
        return rows


@pytest.fixture
def shop(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Shop]:
    yield Shop(cluster, namespace, tmp_path)


def test_back_over_three_bad_releases_and_only_once(shop: Shop) -> None:
    first = shop.deploy("1.0.0")
    assert (first["changed"], first["current"], first["before"], first["revision"]) == (True, "1.0.0", None, 1)
    assert first["actions"] == ["installed 1.0.0 as revision 1"]
    assert not shop.deploy("1.0.0")["changed"]
    assert shop.promote("1.0.0")["actions"] == ["marked 1.0.0 as known good"]
    assert not shop.promote("1.0.0")["changed"]
    for bad in ("2.0.0", "2.0.1", "2.0.2_a+b"):
        shop.deploy(bad)
    rehearsed = shop.back(dry=True)
    assert (rehearsed["changed"], shop.image()) == (True, "shop:2.0.2_a+b")
    back = shop.back(release="2.0.2_a+b", mark_bad="5 % of requests failed")
    assert (back["current"], back["before"], back["revision"]) == ("1.0.0", "2.0.2_a+b", 5)
    assert back["actions"] == ["marked 2.0.2_a+b as bad", "went back to 1.0.0 (revision 1) as revision 5"]
    assert shop.image() == "shop:1.0.0"
    for again in (shop.back(release="2.0.2_a+b", mark_bad="5 % of requests failed"), shop.back()):
        assert (again["changed"], again["current"], again["revision"]) == (False, "1.0.0", 5)
    info = shop.info()
    assert (info["current"], info["previous"], info["known_good"], info["settled"]) == ("1.0.0", "2.0.2_a+b", None, True)
    marked = {release["id"]: release for release in info["releases"]}
    assert marked["2.0.2_a+b"]["bad"]["reason"] == "5 % of requests failed"
    assert marked["1.0.0"]["known_good"] and not marked["2.0.0"]["known_good"]
