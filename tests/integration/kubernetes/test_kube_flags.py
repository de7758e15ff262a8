# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags in a real API server: keys of ConfigMaps, and the OpenFeature operator's FeatureFlag resources.

The resource's definition is a small one of our own, in `tests/testbed/open-feature`; no operator runs. What flagd's
sync would read is what the API server hands out, and is evaluated by flagd's own engine for Python.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Mapping

import pytest
import yaml
from cluster import Cluster
from environment import ROOT
from guard_play import results
from kube_api import ApiError

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.document import Moved
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.document_cluster import ConfigMapDocument
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    Deadline,
    Options,
    Provider,
    Served,
    Where,
    Wish,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.providers import provider_of
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.texts import KEPT

KIND = ROOT / "tests/testbed/open-feature/featureflags.yaml"
RULES = {"if": [{"ends_with": [{"var": "email"}, "@shop.test"]}, "on", "off"]}
WHERE = Where("new-search")
OFF, ON = Wish("off"), Wish("on", serve=True)


@pytest.fixture(scope="session")
def feature_flags(cluster: Cluster) -> Cluster:
    """The cluster with the kind FeatureFlag."""
    definition = yaml.safe_load(KIND.read_text())
    cluster.apply([definition])

    def served() -> bool:
        try:
            return bool(cluster.get("/apis/core.openfeature.dev/v1beta1")["resources"])
        except ApiError:
            return False

    cluster.wait(served, "the API serves FeatureFlag")
    return cluster


def options(cluster: Cluster, namespace: str, kind: str = "ConfigMap", /, **more: Any) -> Options:
    given: Dict[str, Any] = {"type": "flagd", "kind": kind, "namespace": namespace, "name": "flags", **more}
    return Options(**{"cluster": {"kubeconfig": str(cluster.kubeconfig)}, **given})


def provider(
    cluster: Cluster, namespace: str, kind: str = "ConfigMap", /, seconds: float = 20, **more: Any
) -> Provider:
    return provider_of(options(cluster, namespace, kind, **more), Deadline.after(seconds))


def changed(provider: Provider, wish: Wish, where: Where = WHERE) -> Served:
    state = provider.state(where)
    if provider.wanted(where, wish, state):
        provider.set(where, wish, state)
    assert not provider.wanted(where, wish, provider.state(where))
    served = provider.effective(where, wish)
    provider.close()
    return served


def config_map(cluster: Cluster, namespace: str, data: Mapping[str, str], **more: Any) -> None:
    about = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flags"}, "data": dict(data), **more}
    cluster.apply([about], namespace)


def data(cluster: Cluster, namespace: str) -> Dict[str, str]:
    found: Dict[str, str] = cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/flags")["data"]
    return found


def resource(cluster: Cluster, namespace: str, **flags: Any) -> None:
    spec = {"flagSpec": {"flags": {name.replace("_", "-"): flag for name, flag in flags.items()}}}
    about = {"apiVersion": "core.openfeature.dev/v1beta1", "kind": "FeatureFlag", "metadata": {"name": "flags"}}
    cluster.apply([{**about, "spec": spec}], namespace)


def found(cluster: Cluster, namespace: str) -> Dict[str, Any]:
    return cluster.get(f"/apis/core.openfeature.dev/v1beta1/namespaces/{namespace}/featureflags/flags")


def switch(default: str = "on", **more: Any) -> Dict[str, Any]:
    return {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": default, **more}


def served_by_flagd(cluster: Cluster, namespace: str, email: str) -> object:
    # not every environment of the matrix has them
    from openfeature.contrib.tools.flagd.core import FlagdCore
    from openfeature.evaluation_context import EvaluationContext

    engine = FlagdCore()
    engine.set_flags(json.dumps(found(cluster, namespace)["spec"]["flagSpec"]))
    return engine.resolve_boolean_value("new-search", True, EvaluationContext("user", {"email": email})).value


def test_a_key_of_a_config_map_changes_in_one_spot(cluster: Cluster, namespace: str) -> None:
    text = '{"new-search":   true,\n "limit": 1.50}\n'
    config_map(cluster, namespace, {"flags.json": text, "other": "x"})
    told = changed(provider(cluster, namespace, type="json", key="flags.json"), OFF)
    assert (told.known, told.value, told.by) == (True, False, "document read back")
    assert data(cluster, namespace) == {"flags.json": text.replace("true", "false"), "other": "x"}


def test_a_feature_flag_is_off_for_everyone_and_its_rules_come_back(feature_flags: Cluster, namespace: str) -> None:
    resource(feature_flags, namespace, new_search=switch("off", targeting=RULES), other=switch("off"))
    assert served_by_flagd(feature_flags, namespace, "a@shop.test") is True

    told = changed(provider(feature_flags, namespace, "FeatureFlag"), OFF)
    assert (told.known, told.value) == (True, False)
    assert served_by_flagd(feature_flags, namespace, "a@shop.test") is False
    now = found(feature_flags, namespace)
    assert now["spec"]["flagSpec"]["flags"] == {"new-search": switch("off"), "other": switch("off")}
    assert json.loads(json.loads(now["metadata"]["annotations"][KEPT])["new-search"])["targeting"] == RULES

    told = changed(provider(feature_flags, namespace, "FeatureFlag"), ON)
    assert (told.known, "set client_url" in told.why) == (False, True)
    assert served_by_flagd(feature_flags, namespace, "a@shop.test") is True
    assert served_by_flagd(feature_flags, namespace, "a@else.test") is False
    assert KEPT not in found(feature_flags, namespace)["metadata"].get("annotations", {})


def test_the_trap_a_disabled_feature_flag_serves_the_callers_default(feature_flags: Cluster, namespace: str) -> None:
    resource(feature_flags, namespace, new_search=switch("off", state="DISABLED"))
    assert served_by_flagd(feature_flags, namespace, "a@else.test") is True
    told = provider(feature_flags, namespace, "FeatureFlag").effective(WHERE, OFF)
    assert (told.known, "code's default" in told.why) == (False, True)
    changed(provider(feature_flags, namespace, "FeatureFlag"), OFF)
    assert served_by_flagd(feature_flags, namespace, "a@else.test") is False


@pytest.mark.parametrize(("kind", "count"), [("ConfigMap", 50), ("FeatureFlag", 10)])
def test_changes_at_the_same_time_lose_nothing(feature_flags: Cluster, namespace: str, kind: str, count: int) -> None:
    names = [f"flag-{number}" for number in range(count)]
    flags = {name: switch("on") for name in names}
    if kind == "ConfigMap":
        config_map(feature_flags, namespace, {"flags.json": json.dumps({"flags": flags}, indent=2)})
    else:
        resource(feature_flags, namespace, **flags)

    def off(name: str) -> object:
        # the server shares its processors with all who ask it
        ours = provider(feature_flags, namespace, kind, seconds=120, timeout=60)
        return changed(ours, OFF, Where(name)).value

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(off, names)) == [False] * count
    if kind == "ConfigMap":
        now = json.loads(data(feature_flags, namespace)["flags.json"])["flags"]
    else:
        now = found(feature_flags, namespace)["spec"]["flagSpec"]["flags"]
    assert now == {name: switch("off") for name in names}


def test_a_change_is_pinned_to_what_was_read(cluster: Cluster, namespace: str) -> None:
    config_map(cluster, namespace, {"flags.json": '{"a": true, "b": true}'})
    document = ConfigMapDocument(options(cluster, namespace), Deadline.after(10))
    flags, revision = document.read()
    config_map(cluster, namespace, {"flags.json": '{"a": true, "b": 7}'})
    with pytest.raises(Moved):
        document.write({**flags, "a": False}, revision)
    document.close()
    assert data(cluster, namespace)["flags.json"] == '{"a": true, "b": 7}'


def test_what_is_wrong_is_said_and_changes_nothing(feature_flags: Cluster, namespace: str) -> None:
    def why(kind: str = "ConfigMap", wish: Wish = OFF, where: Where = WHERE, **more: Any) -> str:
        with pytest.raises(DeliveryError) as error:
            changed(provider(feature_flags, namespace, kind, seconds=5, **more), wish, where)
        return error.value.message

    assert "is not there" in why()
    assert "is not there" in why("FeatureFlag", name="else")
    config_map(feature_flags, namespace, {"a.json": "{", "b.json": "{}"})
    assert "several keys, and none was chosen" in why()
    assert "has no key 'c'. Set provider.key; it has a.json, b.json" in why(key="c")
    assert "is not JSON" in why(key="a.json")
    resource(feature_flags, namespace, new_search=switch(variants={"on": True}))
    assert "no variant that serves false" in why("FeatureFlag")
    assert "did you mean 'new-search'" in why("FeatureFlag", where=Where("new-serch"))
    assert found(feature_flags, namespace)["spec"]["flagSpec"]["flags"]["new-search"]["defaultVariant"] == "on"
    dead = feature_flags.kubeconfig_with(server="https://127.0.0.1:9")
    assert "nobody listens there" in why(cluster={"kubeconfig": str(dead)}, timeout=0.5)


def test_rights_that_are_missing_are_named(cluster: Cluster, namespace: str) -> None:
    text = '{"new-search": true}'
    config_map(cluster, namespace, {"flags.json": text})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["flags"]}]
    reader: Path = cluster.token_for(namespace, rules)
    with pytest.raises(DeliveryError) as error:
        changed(provider(cluster, namespace, type="json", cluster={"kubeconfig": str(reader)}), OFF)
    assert f"Grant it: patch configmaps 'flags' in namespace '{namespace}'" in error.value.message
    assert data(cluster, namespace)["flags.json"] == text


def test_an_immutable_config_map_is_refused(cluster: Cluster, namespace: str) -> None:
    config_map(cluster, namespace, {"flags.json": '{"new-search": true}'}, immutable=True)
    with pytest.raises(DeliveryError, match="is immutable"):
        changed(provider(cluster, namespace, type="json"), OFF)


def test_another_writer_of_the_same_resource_does_not_lose_its_annotation(
    feature_flags: Cluster, namespace: str
) -> None:
    resource(feature_flags, namespace, new_search=switch("on", targeting=RULES))
    path = f"/apis/core.openfeature.dev/v1beta1/namespaces/{namespace}/featureflags/flags"
    feature_flags.patch(path, {"metadata": {"annotations": {"team": "search"}}})
    changed(provider(feature_flags, namespace, "FeatureFlag"), OFF)
    changed(provider(feature_flags, namespace, "FeatureFlag"), ON)
    assert found(feature_flags, namespace)["metadata"]["annotations"] == {"team": "search"}


def test_who_may_put_a_change_back_is_said(feature_flags: Cluster, namespace: str) -> None:
    resource(feature_flags, namespace, new_search=switch("on", targeting=RULES))
    path = f"/apis/core.openfeature.dev/v1beta1/namespaces/{namespace}/featureflags/flags"
    labels = {"kustomize.toolkit.fluxcd.io/name": "shop"}
    uid = feature_flags.patch(path, {"metadata": {"labels": labels}})["metadata"]["uid"]
    changed(provider(feature_flags, namespace, "FeatureFlag"), OFF)
    note = provider(feature_flags, namespace, "FeatureFlag").state(WHERE).note
    assert "its own rules are kept aside" in note and "; Flux keeps it, and may put it back" in note

    config_map(feature_flags, namespace, {"flags.json": '{"new-search": true}'})
    owner = {"apiVersion": "core.openfeature.dev/v1beta1", "kind": "FeatureFlag", "name": "flags", "uid": uid}
    owners = {"metadata": {"ownerReferences": [{**owner, "controller": True}]}}
    feature_flags.patch(f"/api/v1/namespaces/{namespace}/configmaps/flags", owners)
    assert provider(feature_flags, namespace, type="json").state(WHERE).note == (
        "FeatureFlag flags makes it, and may put it back"
    )


def test_a_play_turns_a_feature_flag_and_knows_what_is_kept(
    feature_flags: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    resource(feature_flags, namespace, new_search=switch("off", targeting=RULES))
    at = {"type": "flagd", "kind": "FeatureFlag", "namespace": namespace, "name": "flags"}
    provider = {**at, "cluster": {"kubeconfig": str(feature_flags.kubeconfig)}}
    off = {"service": "prod/shop", "flag": WHERE.flag, "provider": provider, "state": "off"}
    ours = "selfheal.delivery.feature_flag"
    checked, turned, looked, share, wrong = results(
        [
            {ours: off, "check_mode": True},
            {ours: off, "diff": True},
            {f"{ours}_info": {"flag": WHERE.flag, "provider": provider}},
            {ours: {**off, "state": "on", "percentage": 20}},
            {ours: {**off, "provider": {**provider, "name": "flag"}}},
        ],
        ansible_env,
        tmp_path,
    )
    assert checked["changed"] and checked["before"] == turned["before"], "check mode sets nothing"
    assert (turned["changed"], turned["status"], turned["served"]["value"]) == (True, "effective", False)
    assert turned["served"]["by"] == "document read back"
    assert "its own rules are kept aside" in turned["diff"]["after"]["note"]
    assert looked["served"]["value"] is False and "kept aside" in looked["state"]["note"]
    assert (share["status"], share["served"]["percentage"]) == ("effective", 20)
    assert wrong["failed"] and f"FeatureFlag {namespace}/flag is not there" in wrong["msg"]
