# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching a cluster: kubernetes.core's options and environment, and what is said where it cannot be reached."""

from __future__ import annotations

import json
import socket
import time
from base64 import b64decode
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlsplit

import pytest
import yaml
from cluster import Cluster
from kubernetes.config import incluster_config, kube_config

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.api import Api, Forbidden, NotFound
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.connection import access, settled
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.names import path_of
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError, PlaceError

SECRET = "do-not-tell"
PODS = path_of("v1", "pods", "default")


def api(**params: Any) -> Api:
    return Api(access(params, {}))


def credentials(cluster: Cluster) -> "dict[str, Any]":
    """The same access by options alone: what somebody without a kubeconfig has."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    about, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    options = {"host": about["server"], "api_key": user["token"]}
    return options


def test_by_kubeconfig_its_content_or_host_and_token_from_options_or_the_environment(cluster: Cluster) -> None:
    by_options = credentials(cluster)
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    for params in (
        {"kubeconfig": str(cluster.kubeconfig)},
        {"kubeconfig": content},
        {**by_options, "validate_certs": False},
    ):
        assert api(**params).items(PODS) == []
    environ = {
        "K8S_AUTH_HOST": by_options["host"],
        "K8S_AUTH_API_KEY": by_options["api_key"],
        "K8S_AUTH_VERIFY_SSL": "no",
        "K8S_AUTH_IMPERSONATE_GROUPS": "a, b",
    }
    told = settled({"context": None, "host": None}, environ)
    assert (told["host"], told["validate_certs"], told["impersonate_groups"]) == (by_options["host"], False, ["a", "b"])
    environ.pop("K8S_AUTH_IMPERSONATE_GROUPS")
    assert Api(access({}, environ)).items(PODS) == []
    # what the task says wins over the environment
    assert settled({"host": "https://other"}, environ)["host"] == "https://other"


def test_impersonation_reaches_the_server_with_every_group(cluster: Cluster) -> None:
    acting = {"impersonate_user": "ada", "impersonate_groups": ["one", "two"]}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    told = api(kubeconfig=str(cluster.kubeconfig), **acting).create(path, review)["status"]["userInfo"]
    assert told["username"] == "ada" and {"one", "two"} <= set(told["groups"])
    with pytest.raises(Forbidden, match="list pods in namespace 'default'"):
        api(kubeconfig=str(cluster.kubeconfig), **acting).items(PODS)
    with pytest.raises(OptionError, match="impersonate_user"):
        api(kubeconfig=str(cluster.kubeconfig), impersonate_groups=["one"])


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"kubeconfig": "/not/there"}, "kubeconfig /not/there is not there"),
        ({"host": "https://127.0.0.1:1", "ca_cert": "/no/ca.crt"}, "ca_cert /no/ca.crt is not there"),
        ({"request_timeout": 0.0, "host": "https://127.0.0.1:1"}, "request_timeout is not"),
    ],
)
def test_options_that_lead_nowhere_are_named(params: "dict[str, Any]", told: str) -> None:
    with pytest.raises(OptionError, match=told):
        access(params, {})


def test_a_context_that_is_not_there_is_answered_with_the_nearest_one(cluster: Cluster) -> None:
    with pytest.raises(OptionError, match="has no context 'testbde' .did you mean 'testbed'"):
        api(kubeconfig=str(cluster.kubeconfig), context="testbde")
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    with pytest.raises(OptionError, match="the kubeconfig has no context 'testbde'"):
        api(kubeconfig=content, context="testbde")


def test_a_kubeconfig_that_cannot_be_read_is_told_without_its_content(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text(f"users: [{{name: me, user: {{token: {SECRET}}}}}")
    with pytest.raises(DeliveryError) as caught:
        api(kubeconfig=str(broken))
    assert SECRET not in caught.value.message and "broken" in caught.value.message


def test_who_is_not_accepted_is_told_so_without_the_token(cluster: Cluster) -> None:
    with pytest.raises(PlaceError, match="does not accept who we are.*expired") as caught:
        api(kubeconfig=str(cluster.kubeconfig), api_key=SECRET).items(PODS)
    assert SECRET not in json.dumps([caught.value.message, caught.value.details])


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(cluster: Cluster) -> None:
    with pytest.raises(PlaceError, match="certificate is not trusted"):
        api(**credentials(cluster), request_timeout=1.0).items(PODS)


@contextmanager
def listening() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_is_away_or_silent_is_given_up_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(PlaceError, match=r"could not be asked in 1\.\d s and \d+ tries: nobody listens there"):
        api(host="https://127.0.0.1:1", api_key=SECRET, request_timeout=1.0).items(PODS)
    with listening() as port, pytest.raises(PlaceError, match="could not be asked in .* it does not answer in time"):
        api(host=f"http://127.0.0.1:{port}", api_key=SECRET, request_timeout=1.0).items(PODS)
    assert time.monotonic() - began < 6


def test_a_kind_that_the_cluster_does_not_have_is_told(cluster: Cluster) -> None:
    with pytest.raises(NotFound):
        api(kubeconfig=str(cluster.kubeconfig)).items("/apis/example.org/v1/namespaces/default/things")


def test_inside_a_pod_it_is_the_service_account(
    cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    config = yaml.safe_load(cluster.token_for(namespace, rules).read_text())
    about, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    (tmp_path / "token").write_text(user["token"])
    authority = about.get("certificate-authority")
    content = Path(authority).read_bytes() if authority else b64decode(about["certificate-authority-data"])
    (tmp_path / "ca.crt").write_bytes(content)
    place = urlsplit(about["server"])
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(place.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(place.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert api().items(path_of("v1", "pods", namespace)) == []
    with pytest.raises(Forbidden, match="list services in namespace"):
        api().items(path_of("v1", "services", namespace))
