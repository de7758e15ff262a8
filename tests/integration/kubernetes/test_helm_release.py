# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend helm: the real helm on a real API server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Callable

import pytest
from cluster import Cluster
from helm_shop import Shop

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    FencedError,
    OptionError,
    PlaceError,
)

SECRET = "hunter2 correct horse!"


@pytest.fixture
def shop(cluster: Cluster, namespace: str, tmp_path: Path) -> Shop:
    return Shop(cluster, namespace, tmp_path)


def refused(work: Callable[[], object], error: type[DeliveryError] = PlaceError) -> DeliveryError:
    with pytest.raises(error) as caught:
        work()
    return caught.value


def test_back_over_three_bad_releases_and_only_once(shop: Shop) -> None:
    first = shop.deploy("1.0.0")
    assert (first["changed"], first["current"], first["before"], first["revision"]) == (True, "1.0.0", None, 1)
    assert first["actions"] == ["installed 1.0.0 as revision 1"]
    assert not shop.deploy("1.0.0")["changed"]
    assert shop.promote("1.0.0")["actions"] == ["marked 1.0.0 as known good"]
    assert not shop.promote("1.0.0")["changed"]
    for bad in ("2.0.0", "2.0.1", "2.0.2_a+b"):
        shop.deploy(bad, tag="bad")
    rehearsed = shop.back(dry=True)
    assert (rehearsed["changed"], rehearsed["current"], shop.image()) == (True, "1.0.0", "shop:bad")
    back = shop.back(release="2.0.2_a+b", mark_bad="5 % of requests failed", wait=True)
    assert (back["current"], back["before"], back["revision"]) == ("1.0.0", "2.0.2_a+b", 5)
    assert back["actions"] == ["marked 2.0.2_a+b as bad", "went back to 1.0.0 (revision 1) as revision 5"]
    assert shop.image() == "shop:1.0.0"
    for again in (shop.back(release="2.0.2_a+b", mark_bad="5 % of requests failed"), shop.back()):
        assert (again["changed"], again["current"], again["revision"]) == (False, "1.0.0", 5)
    info = shop.info()
    assert (info["current"], info["previous"], info["known_good"], info["settled"]) == (
        "1.0.0",
        "2.0.2_a+b",
        None,
        True,
    )
    marked = {release["id"]: release for release in info["releases"]}
    assert marked["2.0.2_a+b"]["bad"]["reason"] == "5 % of requests failed"
    assert marked["1.0.0"]["known_good"] and not marked["2.0.0"]["known_good"]
    assert "found bad here before: 5 %" in shop.deploy("2.0.2_a+b", tag="bad", dry=True)["warnings"][0]
    assert "another chart or other values" in str(refused(lambda: shop.deploy("2.0.0", tag="other")))


def test_nothing_to_go_back_to(shop: Shop) -> None:
    assert "no helm release 'shop'" in str(refused(lambda: shop.back(release="1.0.0")))
    assert not shop.back(release="1.0.0", rollout="r-1", undo=True)["changed"]
    shop.deploy("1.0.0")
    assert "no known good release" in str(refused(lambda: shop.back(release="1.0.0")))
    assert "1.0.0 is current here" in str(refused(lambda: shop.promote("2.0.0")))
    shop.promote("1.0.0")
    assert "no known good release" in str(refused(lambda: shop.back(release="1.0.0", mark_bad="it fails")))
    assert shop.image() == "shop:1.0.0"


def test_labels_that_helm_hands_on_do_not_make_another_deploy_known_good(shop: Shop) -> None:
    shop.good("1.0.0")
    shop.upgrade_by_hand("by-hand")
    info = shop.info()
    assert (info["current"], info["known_good"], info["previous"]) == ("revision-2", "1.0.0", "1.0.0")
    assert [release["id"] for release in info["releases"] if release["known_good"]] == ["1.0.0"]
    # a rollback by hand is understood as well
    shop.helm("rollback", "shop", "1")
    assert shop.info()["current"] == "1.0.0"
    assert not shop.back()["changed"]
    # what nobody named can be found good under the name of its revision
    shop.upgrade_by_hand("by-hand-again")
    shop.promote("revision-4")
    shop.deploy("2.0.0")
    assert shop.back(release="2.0.0")["current"] == "revision-4"
    assert shop.image() == "shop:by-hand-again"


def test_somebody_elses_newer_deploy_is_not_overwritten(shop: Shop) -> None:
    shop.good("1.0.0")
    shop.deploy("2.0.0", rollout="r-1")
    shop.upgrade_by_hand("newer")
    for wish in ({"release": "2.0.0"}, {"rollout": "r-1", "undo": True}, {"release": "2.0.0", "to": "1.0.0"}):
        conflict = refused(lambda wish=wish: shop.back(**wish))  # type: ignore[misc]
        assert "revision 3 (revision-3, chart shop-0.1.0, deployed) was deployed by somebody else" in str(conflict)
        assert (conflict.details["conflict"], conflict.details["changed"]) == (True, False)
    assert shop.image() == "shop:newer"
    # a person who names nothing wants whatever runs to be left
    assert shop.back()["current"] == "1.0.0"
    # and what somebody deployed with the objects of the known good is that
    shop.deploy("2.0.1")
    shop.helm("upgrade", "shop", str(shop.chart), "--set", "tag=1.0.0")
    back = shop.back(release="2.0.1")
    assert back["actions"] == ["recognised revision 6 as 1.0.0: it has the same objects"]
    assert not shop.back(release="2.0.1")["changed"]


def test_a_helm_that_slips_in_between_is_told(shop: Shop) -> None:
    shop.good("1.0.0")
    shop.deploy("2.0.0")
    rival = f"upgrade shop {shop.chart} --set tag=rival -n {shop.namespace} --kubeconfig {shop.cluster.kubeconfig}"
    wrapped = shop.wrapped("rollback", f"{{helm}} {rival} >/dev/null")
    conflict = refused(lambda: shop.back(release="2.0.0", binary_path=wrapped))
    assert "revision 3 of somebody else slipped in, and was overwritten by our revision 4" in str(conflict)
    assert (conflict.details["current"], conflict.details["changed"]) == ("1.0.0", True)
    # the release that ran when it was asked has been left all the same
    assert not shop.back(release="2.0.0")["changed"]
    wrapped = shop.wrapped("upgrade", f"{{helm}} {rival} >/dev/null")
    conflict = refused(lambda: shop.deploy("2.0.1", binary_path=wrapped))
    assert "revision 5 of somebody else slipped in, and was overwritten by our revision 6" in str(conflict)
    assert (conflict.details["current"], shop.info()["current"], shop.image()) == ("2.0.1", "2.0.1", "shop:2.0.1")


def test_history_that_is_pruned(shop: Shop) -> None:
    shop.good("1.0.0")
    for release in ("2.0.0", "2.0.1", "2.0.2"):
        deployed = shop.deploy(release, history_max=2)
    assert "helm keeps 4 revisions instead of 2" in deployed["warnings"][0]
    assert shop.back(release="2.0.2", history_max=2)["current"] == "1.0.0"
    for tag in ("by-hand", "again", "more"):
        shop.helm("upgrade", "shop", str(shop.chart), "--set", f"tag={tag}", "--history-max", "2")
    gone = refused(shop.back)
    assert "1.0.0 (revision 5) was, but helm has pruned it from its history" in str(gone)
    assert "the ledger" in str(gone) and gone.details["changed"] is False
    assert shop.image() == "shop:more"


def test_what_a_killed_helm_left(shop: Shop) -> None:
    shop.kill_helm("never-first")
    alive = refused(lambda: shop.deploy("1.0.0"))
    assert "revision 1 is pending-install since" in str(alive) and "somebody who left no name" in str(alive)
    mended = shop.deploy("1.0.0", pending_timeout=0.001)
    assert mended["actions"][0] == "mended pending-install revision 1 by going back to 1"
    assert (mended["current"], shop.image()) == ("1.0.0", "shop:1.0.0")
    shop.promote("1.0.0")
    shop.kill_helm("never-second")
    assert not shop.info()["settled"]
    alive = refused(shop.back)
    assert "is pending-upgrade since" in str(alive) and alive.details["conflict"]
    assert shop.back(dry=True, pending_timeout=0.001)["changed"]
    back = shop.back(pending_timeout=0.001)
    assert (back["current"], shop.image(), shop.info()["settled"]) == ("1.0.0", "shop:1.0.0", True)
    assert "left pending-upgrade by a helm that was killed" in back["warnings"][0]


def test_the_own_rollouts_killed_helm_is_undone_at_once(shop: Shop) -> None:
    shop.good("1.0.0")
    dies = shop.wrapped("upgrade", 'exec timeout -s KILL 1 {helm} "$@"')
    killed = refused(lambda: shop.deploy("2.0.0", tag="never", wait=True, binary_path=dies, rollout="r-7", token=7))
    assert "was ended by signal 9" in str(killed)
    info = shop.info()
    assert (info["current"], info["settled"], info["status"]) == ("2.0.0", False, "pending-upgrade")
    assert not shop.back(rollout="r-8", undo=True, token=8)["changed"]
    back = shop.back(rollout="r-7", undo=True, token=9)
    assert (back["current"], shop.image()) == ("1.0.0", "shop:1.0.0")
    assert not shop.back(rollout="r-7", undo=True, token=9)["changed"]


def test_a_release_that_does_not_become_ready(shop: Shop) -> None:
    shop.good("1.0.0")
    failed = refused(lambda: shop.deploy("2.0.0", tag="never", wait=True, timeout=3.0, rollout="r-1"))
    assert "was not ready in time: " in str(failed) and f" {shop.namespace}/shop" in str(failed)
    assert failed.details["not_ready"] and failed.details["current"] == "2.0.0"
    assert "not deployed whole" in str(refused(lambda: shop.promote("2.0.0")))
    back = shop.back(rollout="r-1", undo=True)
    assert (back["current"], back["before"], shop.info()["settled"]) == ("1.0.0", "2.0.0", True)


def test_a_rollback_that_fails_is_finished_by_the_next(shop: Shop) -> None:
    shop.good("1.0.0")
    shop.deploy("2.0.0")
    shop.cluster.wait_available(shop.namespace, "shop")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": shop.namespace}}
    shop.cluster.apply([{**quota, "spec": {"hard": {"pods": "1"}}}])
    failed = refused(lambda: shop.back(release="2.0.0", wait=True, timeout=3.0))
    assert f" {shop.namespace}/shop" in str(failed)
    info = shop.info()
    assert (info["current"], info["settled"], info["status"]) == ("1.0.0", False, "failed")
    shop.cluster.delete(f"/api/v1/namespaces/{shop.namespace}/resourcequotas/full")
    again = shop.back(release="2.0.0", wait=True)
    assert again["changed"] and shop.info()["settled"]
    assert not shop.back(release="2.0.0")["changed"]


def test_blocked_uninstalled_and_fenced(shop: Shop) -> None:
    shop.good("1.0.0", token=3)
    shop.deploy("2.0.0", rollback="blocked", rollout="r-1", token=4)
    assert "does not allow to be rolled back" in str(refused(lambda: shop.back(release="2.0.0", token=4)))
    fenced = refused(lambda: shop.back(rollout="r-1", undo=True, token=3), FencedError)
    assert fenced.details["highest_token"] == 4
    assert shop.back(rollout="r-1", undo=True, token=5)["current"] == "1.0.0"
    assert shop.info()["token"] == 5
    refused(lambda: shop.deploy("3.0.0", token=4), FencedError)
    shop.helm("uninstall", "shop", "--keep-history")
    assert shop.info()["current"] is None
    assert shop.back()["current"] == "1.0.0"
    assert shop.image() == "shop:1.0.0"
    shop.helm("uninstall", "shop", "--keep-history")
    assert shop.deploy("3.0.0", token=6)["actions"] == ["upgraded to 3.0.0 as revision 5"]
    assert [release["id"] for release in shop.info()["releases"] if release["known_good"]] == ["1.0.0"]


def test_no_value_is_ever_told(shop: Shop, tmp_path: Path) -> None:
    told = [shop.deploy("1.0.0", values={"password": SECRET}), shop.promote("1.0.0"), shop.info()]
    file = tmp_path / 'values, of "mine".yaml'
    file.write_text(f"note: {SECRET}\n")
    for release, bad in (("2.0.0", {"values": {"note": SECRET}}), ("2.0.1", {"values_files": [str(file)]})):
        failed = refused(lambda to=release, bad=bad: shop.deploy(to, **bad))  # type: ignore[misc]
        assert "Invalid value: ***" in str(failed)
        told.append({**failed.details, "msg": failed.message})
    assert shop.deploy("2.0.1", values={"note": "mended"})["current"] == "2.0.1"  # it has never been rolled out
    told += [shop.info(), shop.back(release="2.0.1")]  # helm's own description holds it
    assert SECRET not in json.dumps(told) and SECRET[:7] not in json.dumps(told)
    assert any(SECRET in row["description"] for row in shop.history())


def test_wrong_options(shop: Shop) -> None:
    shop.deploy("1.0.0")
    assert "did you mean 'shop'?" in str(refused(lambda: shop.back(name="shpo")))
    assert f"(did you mean '{shop.namespace}'?)" in str(refused(lambda: shop.back(namespace=shop.namespace + "x")))
    assert "there is no namespace" in str(refused(lambda: shop.deploy("1.0.0", namespace=shop.namespace + "x")))
    assert "did you mean 'shop'?" in shop.info(name="shpo")["warnings"][0]
    assert "cannot be a name in Kubernetes" in str(refused(lambda: shop.back(name="../shop"), OptionError))
    assert "helm_none is not a program" in str(refused(lambda: shop.back(binary_path="helm_none"), OptionError))
    assert "is how a revision is called" in str(refused(lambda: shop.deploy("revision-3"), OptionError))
    assert "too long for a label" in str(refused(lambda: shop.deploy("a" * 70), OptionError))
    assert "is no history" in str(refused(lambda: shop.back(binary_path="/bin/true")))
    assert "is no chart" in str(refused(lambda: shop.do(release="2.0.0", chart="--debug"), OptionError))
    missing = refused(lambda: shop.do(release="2.0.0", chart="/nowhere/chart"))
    assert "'/nowhere/chart'" in str(missing) or '"/nowhere/chart" not found' in str(missing)
    assert shop.history()[-1]["revision"] == 1


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_connections(shop: Shop) -> None:
    shop.good("1.0.0")
    token = json.loads(Path(shop.cluster.kubeconfig).read_text())["users"][0]["user"]["token"]
    by_host = {"kubeconfig": None, "host": shop.cluster.url, "api_key": token, "ca_cert": str(shop.cluster.ca_cert)}
    shop.deploy("2.0.0", **by_host)
    as_mapping = json.loads(Path(shop.cluster.kubeconfig).read_text())
    assert shop.back(release="2.0.0", kubeconfig=as_mapping)["current"] == "1.0.0"
    unchecked = {**by_host, "ca_cert": None, "validate_certs": False}
    admin = {"impersonate_user": "admin", "impersonate_groups": ["system:masters"]}
    assert shop.deploy("2.0.0", **unchecked, **admin)["current"] == "2.0.0"
    dead = shop.cluster.kubeconfig_with(server="https://127.0.0.1:1")
    began = time.monotonic()
    unreachable = refused(lambda: shop.back(kubeconfig=str(dead), request_timeout=0.5))
    assert "https://127.0.0.1:1 could not be asked in" in str(unreachable) and time.monotonic() - began < 10
    expired = shop.cluster.kubeconfig_with(token="expired")
    assert "does not accept who we are" in str(refused(lambda: shop.back(kubeconfig=str(expired))))
    reader = shop.cluster.token_for(
        shop.namespace, [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]
    )
    forbidden = refused(lambda: shop.back(kubeconfig=str(reader), release="2.0.0", mark_bad="it fails"))
    assert "RBAC forbids to patch secrets 'sh.helm.release.v1.shop.v" in str(forbidden)
    assert shop.namespace in str(forbidden) and shop.image() == "shop:2.0.0"
    books = shop.cluster.token_for(shop.namespace, [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}])
    forbidden = refused(lambda: shop.back(kubeconfig=str(books), release="2.0.0"))
    assert 'cannot get resource "deployments"' in str(forbidden) and "Grant it" in str(forbidden)
    assert shop.back(release="2.0.0")["changed"] and shop.info()["settled"] and shop.image() == "shop:1.0.0"
