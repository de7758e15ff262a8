# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `argo_rollout` against a real control plane and the real controller of Argo Rollouts."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, Iterator, List, Mapping

import pytest
from cluster import Cluster, rollout, service

from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo.backend import ArgoBackend
from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo.hands import ArgoHow, Hands
from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo.options import (
    backend_of,
    look,
    outcome_of,
    pod_lister,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo.run import ArgoOutcome
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.api import Conflict
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.names import Kind
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.workload import Target
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Rollback
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    FencedError,
    OptionError,
    PlaceError,
)

Doc = Dict[str, Any]
Do = Callable[..., ArgoOutcome]

STEPS: List[Doc] = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
CANARY = {"canary": {"steps": STEPS}}


class Place:
    """One Rollout in its namespace: what the backend does to it, and how it looks without the backend."""

    def __init__(self, cluster: Cluster, namespace: str, name: str = "shop") -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, name
        self.path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/rollouts/{name}"
        self.params: Doc = {
            "kubeconfig": str(cluster.kubeconfig),
            "namespace": namespace,
            "name": name,
            "images": {"app": "shop:{release}"},
            "timeout": 20,
            "keep": 5,
        }

    def start(self, image: str = "shop:1.0.0", replicas: int = 4, strategy: object = CANARY, **spec: object) -> "Place":
        doc = rollout(self.name, image, replicas, strategy=strategy)
        doc["spec"].update(spec)
        self.cluster.apply([doc], self.namespace)
        self.cluster.wait(lambda: self.get().get("status", {}).get("phase") == "Healthy", f"{self.name} is healthy")
        return self

    def do(self, state: str, release: str = "", *, dry: bool = False, **params: object) -> ArgoOutcome:
        wish = {**self.params, "state": state, "release": release, **params}
        return outcome_of(backend_of(wish, dry=dry), wish)

    def backend(self, **params: object) -> ArgoBackend:
        return backend_of({**self.params, **params}, dry=False)

    def good(self, release: str = "1.0.0") -> "Place":
        """The release that runs is known good, as after its own rollout."""
        self.do("deployed", release)
        self.do("promoted", release)
        return self

    def get(self) -> Doc:
        return self.cluster.get(self.path)

    def phase(self) -> str:
        return str(self.get()["status"]["phase"])

    def image(self) -> str:
        return str(self.get()["spec"]["template"]["spec"]["containers"][0]["image"])

    def pods(self, image: str) -> Dict[str, str]:
        """Pods of an image, name -> uid."""
        pods = self.cluster.pods(self.namespace, app=self.name)
        return {
            pod["metadata"]["name"]: pod["metadata"]["uid"]
            for pod in pods
            if pod["spec"]["containers"][0]["image"] == image
        }

    def sets(self) -> Dict[str, Mapping[str, str]]:
        """Annotations of the ReplicaSets, by image."""
        found = self.cluster.list(
            f"/apis/apps/v1/namespaces/{self.namespace}/replicasets?labelSelector=app={self.name}"
        )
        return {
            each["spec"]["template"]["spec"]["containers"][0]["image"]: each["metadata"]["annotations"]
            for each in found
        }


@pytest.fixture
def place(argo: Cluster, namespace: str) -> Place:
    return Place(argo, namespace)


def test_a_bad_release_is_taken_back_and_the_stable_pods_are_the_same(place: Place) -> None:
    place.start().good()
    place.cluster.patch(place.path, {"metadata": {"annotations": {"owner": "team-a"}}})
    before = place.pods("shop:1.0.0")
    canary = place.do("deployed", "2.0.0", share=20, rollout="r1", token=7, change_cause="CI 42")
    assert (canary.current, canary.before, canary.stable, canary.share) == ("2.0.0", "1.0.0", "1.0.0", 20)
    assert canary.known_good == "1.0.0" and place.phase() == "Paused"
    assert place.get()["metadata"]["annotations"]["kubernetes.io/change-cause"] == "CI 42"
    kept = place.pods("shop:1.0.0")
    assert set(kept.items()) <= set(before.items()) and len(place.pods("shop:2.0.0")) == 1
    back = place.do("known_good", "2.0.0", mark_bad="5 % failed", rollout="r1", undo=True, token=8)
    assert (back.current, back.before, back.changed, back.phase) == ("1.0.0", "2.0.0", True, "Healthy")
    assert set(kept.items()) <= set(place.pods("shop:1.0.0").items()) and not place.pods("shop:2.0.0")
    assert place.get()["metadata"]["annotations"]["owner"] == "team-a"
    again = place.do("known_good", "2.0.0", mark_bad="5 % failed", rollout="r1", undo=True, token=8)
    assert not again.changed and again.current == "1.0.0"
    with pytest.raises(FencedError, match="token 7 is lower than 8"):
        place.do("deployed", "2.1.0", token=7)
    assert place.image() == "shop:1.0.0"


def test_a_good_release_is_promoted_through_its_pauses_and_marked(place: Place) -> None:
    place.start().good()
    half = place.do("deployed", "2.0.0", share=50)
    assert (half.share, half.phase) == (50, "Paused") and len(place.pods("shop:2.0.0")) == 2
    assert not place.do("deployed", "2.0.0", share=20).changed
    whole = place.do("deployed", "2.0.0", share=100)
    assert (whole.share, whole.phase, whole.stable) == (100, "Healthy", "2.0.0")
    assert len(place.pods("shop:2.0.0")) == 4 and not place.pods("shop:1.0.0")
    assert place.do("promoted", "2.0.0", rollout="r2").changed
    assert not place.do("promoted", "2.0.0", rollout="r2").changed
    assert '"r2"' in place.sets()["shop:2.0.0"]["selfheal.delivery/release"]
    quick = place.do("deployed", "3.0.0")
    assert quick.share == 20
    promoted = place.do("promoted", "3.0.0", rollout="r3")
    assert (promoted.phase, promoted.known_good, promoted.share) == ("Healthy", "2.0.0", 100)
    with pytest.raises(PlaceError, match="cannot promote release 4.0.0: 3.0.0 is current here"):
        place.do("promoted", "4.0.0")


def test_it_goes_back_over_three_bad_releases(place: Place) -> None:
    place.start(strategy={"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}).good()
    for release in ("2.0.0", "3.0.0", "4.0.0"):
        place.do("deployed", release, share=100)
    place.do("known_good", "3.0.0")  # that one does not run, and the current one is not known good
    assert place.image() == "shop:1.0.0" and place.phase() == "Healthy"
    assert len(place.pods("shop:1.0.0")) == 4
    assert not place.do("known_good").changed
    with pytest.raises(PlaceError, match="cannot go back to release 3.0.0: it has never been known good here"):
        place.do("known_good", "1.0.0", to="3.0.0")


def test_undo_to_a_revision(place: Place) -> None:
    place.start().good()
    place.do("deployed", "2.0.0", share=100)
    place.do("deployed", "3.0.0", share=20)
    place.do("paused")
    undone = place.do("known_good", to_revision=2)
    assert (undone.current, undone.phase, place.image()) == ("2.0.0", "Healthy", "shop:2.0.0")
    assert not place.do("known_good", to_revision=2).changed
    current = int(place.get()["metadata"]["annotations"]["rollout.argoproj.io/revision"])
    with pytest.raises(OptionError, match=f"revision {current} of Rollout shop .* is the current one"):
        place.do("known_good", to_revision=current)
    assert not place.do("known_good", to_previous=True).changed
    with pytest.raises(OptionError, match=r"no revision 77\. It has 1 \(1\.0\.0\), 3 \(3\.0\.0\), 4 \(2\.0\.0\)"):
        place.do("known_good", to_revision=77)


def test_a_history_that_is_pruned_is_a_clear_refusal(place: Place) -> None:
    kept = place.start(revisionHistoryLimit=0).good().do("promoted", "1.0.0").more["template"]
    place.do("deployed", "2.0.0", share=100)
    place.cluster.wait(lambda: "shop:1.0.0" not in place.sets(), "the history is pruned")
    with pytest.raises(PlaceError, match="there is no known good release to go back to"):
        place.do("known_good", "2.0.0")
    assert place.image() == "shop:2.0.0"
    back = place.do("known_good", "2.0.0", to="1.0.0", template=kept)
    assert (back.current, back.phase, place.image()) == ("1.0.0", "Healthy", "shop:1.0.0")


def test_what_kubectl_has_a_command_for(place: Place) -> None:
    place.start().good()
    place.do("deployed", "2.0.0")
    aborted = place.do("aborted")
    assert (aborted.phase, aborted.share, aborted.current, aborted.stable) == ("Degraded", 0, "2.0.0", "1.0.0")
    assert not place.pods("shop:2.0.0") and not place.do("aborted").changed
    retried = place.do("retried")
    assert (retried.phase, retried.share) == ("Paused", 20) and not place.do("retried").changed
    assert place.do("promoted_step").share == 50
    assert place.do("promoted_step").phase == "Healthy" and not place.do("promoted_step").changed
    before = place.pods("shop:2.0.0")
    assert place.do("restarted").phase == "Healthy"
    assert len(place.pods("shop:2.0.0")) == 4 and not set(before) & set(place.pods("shop:2.0.0"))
    assert place.do("paused").phase == "Paused" and not place.do("paused").changed
    with pytest.raises(PlaceError, match="is paused, so nothing would be rolled out"):
        place.do("deployed", "3.0.0")
    assert place.do("resumed").phase == "Healthy" and not place.do("resumed").changed


def test_a_release_that_crashes_fails_at_once_and_goes_back(place: Place) -> None:
    place.start().good()
    with pytest.raises(PlaceError, match="pod shop-.*, container app: CrashLoopBackOff") as crashed:
        place.do("deployed", "2.0.0-crash", share=20)
    assert crashed.value.details["current"] == "2.0.0-crash" and crashed.value.details["changed"]
    with pytest.raises(PlaceError, match="cannot promote release 2.0.0-crash: it failed here"):
        place.do("promoted", "2.0.0-crash")
    assert place.do("known_good", "2.0.0-crash", mark_bad="crashes").phase == "Healthy"
    place.do("deployed", "2.0.1", share=20)
    place.do("aborted")
    back = place.do("known_good", "2.0.1")
    assert (back.phase, place.image()) == ("Healthy", "shop:1.0.0")


def test_a_spec_that_the_controller_refuses(place: Place) -> None:
    place.start().good()
    twice = {"spec": {"containers": [{"name": "app", "ports": [{"containerPort": 8080, "name": "NO"}]}]}}
    with pytest.raises(PlaceError, match="InvalidSpec: .*must contain only alpha-numeric"):
        place.do("deployed", "2.0.0", patch=twice)
    assert len(place.pods("shop:1.0.0")) == 4
    back = place.do("known_good", "2.0.0")
    assert (back.current, back.phase, place.image()) == ("1.0.0", "Healthy", "shop:1.0.0")


def test_bad_input_changes_nothing(place: Place) -> None:
    place.start().good()
    version = place.get()["metadata"]["resourceVersion"]
    cases: List[tuple[str, Doc]] = [
        (r"no step waits at 60 % or more .* 20 % \(until promoted\), 50 % \(until promoted\)", {"share": 60}),
        ("no container 'ap' .did you mean 'app'", {"images": {"ap": "shop:2"}}),
        ("is not an image reference", {"images": {"app": "Shop 2"}}),
        ("has no Rollout 'shp' .did you mean 'shop'", {"name": "shp"}),
        ("there is no namespace", {"namespace": place.namespace + "x"}),
        ("release 2.0.0 would have the same pod template as release 1.0.0", {"images": {}}),
        ("release 2.0.0 would have the same pod template as release 1.0.0", {"images": {"app": "shop:1.0.0"}}),
        ("share needs wait", {"share": 20, "wait": False}),
        ("timeout is not a number", {"timeout": 0}),
    ]
    for message, params in cases:
        with pytest.raises(DeliveryError, match=message) as refused:
            place.do("deployed", "2.0.0", **params)
        assert not refused.value.details.get("changed")
    dry = place.do("deployed", "2.0.0", share=20, dry=True)
    assert dry.changed and dry.current == "2.0.0" and "shop:2.0.0" in str(dry.diff["after"])
    assert place.get()["metadata"]["resourceVersion"] == version
    place.cluster.patch(place.path, {"spec": {"replicas": 0}})
    with pytest.raises(PlaceError, match="has replicas: 0"):
        place.do("deployed", "2.0.0")


def test_a_newer_deploy_in_between_is_not_overwritten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start().good()
    place.do("deployed", "2.0.0")
    backend = place.backend(images={})
    change, news = backend.hands.change, ["shop:9"]

    def late(*given: Any) -> Any:
        for image in news:
            new = {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}
            place.cluster.patch(place.path, [new], "json")
        news.clear()
        return change(*given)

    monkeypatch.setattr(backend.hands, "change", late)
    with pytest.raises(Conflict, match="was changed by .* since it was looked at, and nothing was overwritten"):
        backend.rollback(Rollback(leave="2.0.0"))
    assert place.image() == "shop:9"


def test_rbac_that_forbids_the_patch(place: Place) -> None:
    place.start().good()
    look = [
        {"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get", "list", "watch", "patch"]},
    ]
    kubeconfig = str(place.cluster.token_for(place.namespace, look))
    forbidden = f"Grant it: patch rollouts.argoproj.io 'shop' in namespace '{place.namespace}'"
    with pytest.raises(PlaceError, match=forbidden):
        place.do("deployed", "2.0.0", kubeconfig=kubeconfig)
    assert place.image() == "shop:1.0.0"


def test_blue_green_has_a_preview_and_no_share(place: Place) -> None:
    place.cluster.apply([service("active", {"app": "shop"}), service("preview", {"app": "shop"})], place.namespace)
    place.start(
        strategy={"blueGreen": {"activeService": "active", "previewService": "preview", "autoPromotionEnabled": False}}
    ).good()
    with pytest.raises(OptionError, match="share has no meaning for the strategy blueGreen"):
        place.do("deployed", "2.0.0", share=20)
    preview = place.do("deployed", "2.0.0")
    assert (preview.phase, preview.share, preview.stable) == ("Paused", 0, "1.0.0")
    back = place.do("known_good", "2.0.0")
    assert (back.phase, back.current) == ("Healthy", "1.0.0")
    place.do("deployed", "3.0.0")
    promoted = place.do("promoted", "3.0.0")
    assert (promoted.phase, promoted.share, promoted.stable) == ("Healthy", 100, "3.0.0")
    # as the task `release` asks, where nobody walks through shares
    whole = place.do("deployed", "4.0.0", share=100)
    assert (whole.phase, whole.share, whole.stable) == ("Healthy", 100, "4.0.0")


def test_the_api_server_restarts_while_it_waits(place: Place) -> None:
    place.start().good()
    slow = {"metadata": {"annotations": {"testbed/ready-after": "1500ms"}}}
    with ThreadPoolExecutor() as crew:
        doing = crew.submit(place.do, "deployed", "2.0.0", share=20, patch=slow, timeout=60)
        place.cluster.wait(lambda: place.pods("shop:2.0.0"), "the canary begins")
        place.cluster.restart_apiserver()
        canary = doing.result()
    assert (canary.share, canary.phase) == (20, "Paused")


class Metric(BaseHTTPRequestHandler):
    """A service's share of errors, for Argo's own analysis."""

    def do_GET(self) -> None:
        body = json.dumps({"errors": float(self.path[1:])}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def metric() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metric)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_argos_own_analysis_is_read(place: Place, metric: str) -> None:
    judged = {"successCondition": "result < 0.01", "failureCondition": "result > 0.03", "count": 1}
    for name, value in (("good", "0.001"), ("bad", "0.07"), ("unsure", "0.02")):
        web = {"web": {"url": f"{metric}/{value}", "jsonPath": "{$.errors}"}}
        template = {"metrics": [{"name": "errors", "provider": web, **judged}]}
        about = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": name}}
        place.cluster.apply([{**about, "spec": template}], place.namespace)

    def strategy(name: str) -> Doc:
        analysis = {"analysis": {"templates": [{"templateName": name}]}}
        return {"canary": {"steps": [{"setWeight": 20}, analysis, {"pause": {}}]}}

    place.start(strategy=strategy("good")).good()
    passed = place.do("deployed", "2.0.0", share=20, analysis="read")
    assert [(run["phase"], run["metrics"][0]["value"]) for run in passed.analysis] == [("Successful", "0.001")]
    place.do("known_good", "2.0.0")
    place.cluster.patch(place.path, {"spec": {"strategy": strategy("bad")}})
    with pytest.raises(PlaceError, match="AnalysisRun shop-.* is Failed: .*metric errors Failed"):
        place.do("deployed", "2.1.0", share=20, analysis="read")
    assert place.do("known_good", "2.1.0").phase == "Healthy"
    place.cluster.patch(place.path, {"spec": {"strategy": strategy("unsure")}})
    with pytest.raises(PlaceError, match="is Inconclusive: .*metric errors Inconclusive"):
        place.do("deployed", "2.2.0", share=20, analysis="read")
    assert place.do("known_good", "2.2.0").phase == "Healthy"


def test_a_run_that_was_killed_is_finished_or_taken_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start().good()

    class Killed(BaseException):
        pass

    def die(*given: object) -> None:
        raise Killed

    def killed(state: str, release: str, **params: str) -> None:
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Hands, "follow", die)
            outcome_of(place.backend(), {**place.params, "state": state, "release": release, **params})

    killed("deployed", "2.0.0", rollout="r1")
    finished = place.do("deployed", "2.0.0", rollout="r1", share=20)
    assert (finished.before, finished.share) == ("1.0.0", 20)
    assert not [action for action in finished.actions if action.startswith("set the pod template")]
    place.do("deployed", "2.0.0", share=100)
    killed("known_good", "2.0.0", mark_bad="slow")
    back = place.do("known_good", "2.0.0", mark_bad="slow")
    assert (back.current, back.phase, back.share) == ("1.0.0", "Healthy", 100)
    killed("deployed", "3.0.0", rollout="r3")
    undone = place.do("known_good", rollout="r3", undo=True)
    assert (undone.current, undone.phase, place.image()) == ("1.0.0", "Healthy", "shop:1.0.0")
    quick = place.do("deployed", "4.0.0", wait=False)
    assert quick.current == "4.0.0" and "4.0.0" in place.sets()["shop:4.0.0"]["selfheal.delivery/release"]


def test_a_rollout_that_is_not_ours_to_change(place: Place) -> None:
    owner = {"apiVersion": "v1", "kind": "Thing", "name": "boss", "uid": "1-2-3", "controller": True}
    place.start()
    place.cluster.patch(place.path, {"metadata": {"ownerReferences": [owner]}})
    with pytest.raises(PlaceError, match="is owned by Thing boss") as owned:
        place.do("deployed", "2.0.0")
    assert not owned.value.details["changed"]
    referred = rollout("other", "shop:1.0.0")
    del referred["spec"]["template"]
    referred["spec"]["workloadRef"] = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "elsewhere"}
    place.cluster.apply([referred], place.namespace)
    with pytest.raises(PlaceError, match="takes its pod template from Deployment elsewhere .workloadRef."):
        place.do("deployed", "2.0.0", name="other")
    unknown = Target(Kind("Rollout", "argoproj.io/v1beta9", "rollouts", "replicasets"), place.namespace, "shop")
    with pytest.raises(PlaceError, match=r"knows no Rollout .* Install Argo Rollouts in this cluster"):
        Hands(place.backend().hands.api, unknown, ArgoHow()).look()


def test_what_the_controller_rewrites_or_adds_is_nobodys_change(place: Place) -> None:
    apart = {"preferredDuringSchedulingIgnoredDuringExecution": {"weight": 1}}
    roles = {f"{role}Metadata": {"labels": {"role": role}} for role in ("canary", "stable")}
    place.start(strategy={"canary": {"antiAffinity": apart, **roles, "steps": STEPS}}).good()
    limits = {"name": "app", "stdin": False, "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}}}
    patch = {"spec": {"containers": [limits]}}
    place.do("deployed", "2.0.0", patch=patch, share=100)
    assert not place.do("deployed", "2.0.0", patch=patch, share=100).changed
    place.do("known_good", "2.0.0")
    template = place.get()["spec"]["template"]
    assert "affinity" not in template["spec"] and template["metadata"]["labels"] == {"app": "shop"}
    assert place.do("promoted", "1.0.0").phase == "Healthy"
    place.do("deployed", "3.0.0", share=20)
    kept = place.pods("shop:1.0.0")
    assert place.do("known_good", "3.0.0").phase == "Healthy"
    assert set(kept.items()) <= set(place.pods("shop:1.0.0").items())


def test_info_tells_the_pods_of_canary_and_stable_apart(place: Place) -> None:
    place.start().good()
    place.do("deployed", "2.0.0", share=50)
    told = look(place.params)
    assert (told["current"], told["stable"], told["share"], told["settled"]) == ("2.0.0", "1.0.0", 50, True)
    pods = pod_lister(place.params)()
    assert sorted(str(pod["release"]) for pod in pods) == ["1.0.0", "1.0.0", "2.0.0", "2.0.0"]
    assert all(pod["ready"] and pod["restarts"] == 0 and pod["started_at"] for pod in pods)
