# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How helm is told where the cluster is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm.cli import Helm, Pace, Way, binary_of, way_of
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError


def test_options_and_environment_become_flags_and_no_secret_does() -> None:
    options = {
        "context": "blue",
        "api_key": "s3cr3t",
        "ca_cert": "/etc/ca.pem",
        "impersonate_user": "ada",
        "impersonate_groups": ["dev", "ops"],
        "proxy": "http://proxy:3128",
    }
    with way_of(options, {"K8S_AUTH_KUBECONFIG": "/etc/kube.config", "K8S_AUTH_CONTEXT": "green"}) as way:
        assert way.flags == (
            *("--kubeconfig", "/etc/kube.config", "--kube-context", "blue", "--kube-ca-file", "/etc/ca.pem"),
            *("--kube-as-user", "ada", "--kube-as-group", "dev", "--kube-as-group", "ops"),
        )
        assert way.environ == {"HELM_KUBETOKEN": "s3cr3t", "HTTPS_PROXY": "http://proxy:3128"}
        assert "s3cr3t" not in repr(way)
    with way_of({"host": "https://api", "validate_certs": False, "ca_cert": "/etc/ca.pem"}, {}) as way:
        assert way.flags == ("--kube-apiserver", "https://api", "--kube-insecure-skip-tls-verify")
        # the credentials of whatever cluster the user's own kubeconfig is for stay at home
        assert way.environ == {"KUBECONFIG": os.devnull}


@pytest.mark.parametrize(
    "options",
    [
        {"kubeconfig": {"clusters": []}},
        {"host": "https://api", "client_cert": "/etc/me.pem", "client_key": "/etc/me.key"},
        {"host": "https://api", "username": "ada", "password": "s3cr3t"},
    ],
)
def test_what_helm_has_no_flag_for_goes_through_a_file_for_us_alone(options: Dict[str, object]) -> None:
    with way_of(options, {}) as way:
        path = Path(way.flags[way.flags.index("--kubeconfig") + 1])
        config = json.loads(path.read_text())
        assert path.stat().st_mode & 0o777 == 0o600
        assert "KUBECONFIG" not in way.environ and "s3cr3t" not in str(way.flags)
    assert not path.exists()
    given = {"client_cert": "client-certificate", "client_key": "client-key"}
    user = {given.get(key, key): value for key, value in options.items() if key not in ("host", "kubeconfig")}
    assert config.get("users", [{"user": {}}])[0]["user"] == user


def test_what_helm_cannot_be_told() -> None:
    with pytest.raises(OptionError, match="only together with host"):
        with way_of({"kubeconfig": "/etc/kube.config", "client_cert": "/etc/me.pem"}, {}):
            pass
    with pytest.raises(OptionError, match="Install helm"):
        binary_of("/nowhere/helm")


def test_a_helm_that_does_not_end_is_ended(tmp_path: Path) -> None:
    slow = tmp_path / "helm"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o700)
    helm = Helm(str(slow), Way(), "shop", "prod", pace=Pace(), patience=0.2)
    with pytest.raises(PlaceError, match="the history of helm release shop in namespace prod did not end within"):
        helm.history()
