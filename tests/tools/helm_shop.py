# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Helm release for tests: a chart of one Deployment, the module's work on it, and somebody else's helm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List

from cluster import Cluster
from go_tool import go_tool

from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm import options as helm_options

TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}, note: {{ .Values.note | quote }}}}
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
    # helm looks every 2 s whether all is ready, which only some tests are about
    "wait": False,
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
        (self.chart / "values.yaml").write_text(json.dumps({"tag": "none", "replicas": 1, "password": "", "note": ""}))
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

    def kill_helm(self, tag: str) -> None:
        """A helm that is killed while it waits, and leaves its revision pending."""
        command = [str(self.binary), "upgrade", "--install", "shop", str(self.chart), "--set", f"tag={tag}", "--wait"]
        command += ["-n", self.namespace, "--kubeconfig", str(self.cluster.kubeconfig)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                self.cluster.wait(lambda: self.image() == f"shop:{tag}", f"helm applied {tag}")
            finally:
                process.kill()

    def wrapped(self, first: str, run: str) -> str:
        """A helm for `binary_path`: where its first word is `first`, the shell does `run`, where {helm} is real."""
        wrapper = self.chart.parent / f"helm-{first}"
        words = run.format(helm=self.binary)
        wrapper.write_text(f'#!/bin/sh\n[ "$1" = {first} ] && {{ {words}; }}\nexec {self.binary} "$@"\n')
        wrapper.chmod(0o700)
        return str(wrapper)

    def image(self) -> str:
        found = self.cluster.list(f"/apis/apps/v1/namespaces/{self.namespace}/deployments")
        return str(found[0]["spec"]["template"]["spec"]["containers"][0]["image"]) if found else ""

    def history(self) -> List[Dict[str, Any]]:
        rows: List[Dict[str, Any]] = json.loads(self.helm("history", "shop", "-o", "json"))
        return rows
