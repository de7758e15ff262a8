# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubeconfig that is read here leads to what the kubernetes library makes of it; what takes more is left to it."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any, Dict

import kubernetes.client
import kubernetes.config
import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.kubeconfig import plain_configuration

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
SAME = ("host", "ssl_ca_cert", "cert_file", "key_file", "verify_ssl", "tls_server_name")


def config(cluster: Dict[str, Any], user: Dict[str, Any]) -> Dict[str, Any]:
    """With another context, which is not the current one."""
    other = {"name": "other", "cluster": {"server": "https://other:6443"}}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [other, {"name": "c", "cluster": {"server": "https://api:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}, {"name": "nobody", "user": {}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
            {"name": "there", "context": {"cluster": "other", "user": "nobody"}},
        ],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ca.crt", "me.crt", "me.key"):
        (tmp_path / name).write_text(PEM)
    (tmp_path / "token").write_text("from-a-file")
    return tmp_path


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({"certificate-authority": "ca.crt"}, {"token": "t"}),
        ({"certificate-authority": "ca.crt"}, {"tokenFile": "token"}),
        ({"certificate-authority": "ca.crt"}, {"token": "t", "tokenFile": "token"}),
        ({"certificate-authority": "./ca.crt"}, {"client-certificate": "me.crt", "client-key": "me.key"}),
        ({"insecure-skip-tls-verify": True, "tls-server-name": "api.example.org"}, {"token": "t"}),
        ({}, {}),
    ],
)
@pytest.mark.parametrize("context", [None, "there"])
def test_it_is_what_the_library_makes_of_it(
    folder: Path, cluster: Dict[str, Any], user: Dict[str, Any], context: "str | None"
) -> None:
    file = folder / "config"
    file.write_text(json.dumps(config(cluster, user)))
    theirs: Any = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(str(file), context=context, client_configuration=theirs, persist_config=False)
    ours = plain_configuration({"kubeconfig": str(file), "context": context}, {})
    assert ours is not None
    assert {name: getattr(ours, name) for name in SAME} == {name: getattr(theirs, name) for name in SAME}
    told = [one.get("BearerToken", {}).get("value") for one in (ours.auth_settings(), theirs.auth_settings())]
    assert told[0] == told[1]
    assert "from-a-file" not in repr(ours)


def test_an_authority_in_the_file_itself_needs_no_other_file() -> None:
    ours = plain_configuration({"kubeconfig": config({"certificate-authority-data": b64(PEM)}, {"token": "t"})}, {})
    assert ours is not None and ours.ca_cert_data == PEM and ours.ssl_ca_cert is None


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({}, {"exec": {"command": "aws"}}),
        ({}, {"auth-provider": {"name": "oidc"}}),
        ({}, {"username": "ada", "password": "p"}),
        ({}, {"as": "ada"}),
        ({}, {"client-certificate-data": b64(PEM), "client-key-data": b64(PEM)}),
        ({"proxy-url": "http://proxy:3128"}, {"token": "t"}),
        ({"certificate-authority": "not-there.crt"}, {"token": "t"}),
        ({"server": "unix:///run/api"}, {"token": "t"}),
        ({"server": 5}, {"token": "t"}),
    ],
)
def test_what_takes_more_than_reading_is_the_librarys(folder: Path, cluster: Dict[str, Any], user: Any) -> None:
    file = folder / "config"
    file.write_text(json.dumps(config(cluster, user)))
    assert plain_configuration({"kubeconfig": str(file)}, {}) is None


def test_so_is_what_cannot_be_read_and_what_goes_through_a_proxy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "config"
    file.write_text(json.dumps(config({}, {"token": "t"})))
    good = {"kubeconfig": str(file)}
    assert plain_configuration(good, {}) is not None
    assert plain_configuration({}, {"KUBECONFIG": str(file)}) is not None
    for other in ({"context": "neither"}, {"proxy": "http://proxy"}, {"kubeconfig": f"{file}:{file}"}):
        assert plain_configuration({**good, **other}, {}) is None
    file.write_text("clusters: [")
    assert plain_configuration(good, {}) is None
    assert plain_configuration({"host": "https://api"}, {}) is not None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert plain_configuration({"host": "https://api"}, {}) is None
