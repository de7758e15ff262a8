# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions share: which places a service has, where they are measured, who acts, and plain copies."""

from __future__ import annotations

import json
import os
import pickle
from typing import Any, Dict, List

import pytest
from ansible.parsing.dataloader import DataLoader
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    ControllerAction,
    Facts,
    actor,
    holder,
    lease_fact,
    lease_from,
    now,
    places_of,
    plain,
    targets_of,
)


def test_the_places_of_a_service_are_its_groups_hosts_in_order() -> None:
    assert places_of("shop", {"groups": {"shop": ["web2", "web1"], "all": ["web2", "web1", "db1"]}}) == ["web2", "web1"]


@pytest.mark.parametrize(
    "service, told",
    [("all", "everything"), ("ungrouped", "everything"), ("shap", "no group 'shap'"), ("empty", "has no hosts")],
)
def test_a_selection_that_names_no_service_is_refused(service: str, told: str) -> None:
    groups = {"all": ["web1"], "ungrouped": ["web1"], "shop": ["web1"], "empty": []}
    with pytest.raises(OptionError, match=told) as refused:
        places_of(service, {"groups": groups})
    assert refused.value.mend
    with pytest.raises(OptionError):
        places_of(service, {})


def variables(source: object, **more: object) -> Dict[str, Any]:
    return {"hostvars": {"web1": {"delivery_services": {"shop": {"source": source}}, **more}}}


def targets(source: object, **more: object) -> List[Facts]:
    return targets_of("demo/shop", "shop", ["web1"], variables(source, **more))


def test_a_scraped_place_is_asked_at_its_own_urls() -> None:
    (one,) = targets({"type": "exposition", "url": "http://web1/metrics"})
    assert (one["place"], one["urls"]) == ("web1", ["http://web1/metrics"])
    (two,) = targets({"type": "exposition", "urls": ["http://web1:1/metrics", "http://web1:2/metrics"]})
    assert two["urls"] == ["http://web1:1/metrics", "http://web1:2/metrics"]


def test_a_metrics_server_knows_a_place_by_its_address() -> None:
    server = {"type": "prometheus", "url": "http://prometheus"}
    assert targets(server, ansible_host="10.0.0.1") == [{"place": "web1", "urls": [], "instance": "10.0.0.1"}]
    assert targets(server)[0]["instance"] == ""


@pytest.mark.parametrize("source", [{"type": "exposition"}, {"type": "exposition", "urls": []}])
def test_a_place_without_a_url_is_named(source: object) -> None:
    with pytest.raises(OptionError, match="demo/shop: web1 has no url to scrape"):
        targets(source)


def test_a_place_without_a_policy_has_no_url_and_no_source_of_ours() -> None:
    assert targets_of("demo/shop", "shop", ["web1"], {"hostvars": {"web1": {}}})[0]["urls"] == []


def test_a_lease_travels_between_tasks() -> None:
    lease = Lease("demo/shop", "ada@ci pid 1", 7, 123.5)
    assert lease_from(json.loads(json.dumps(lease_fact(lease)))) == lease


@pytest.mark.parametrize(
    "fact", [{}, {"service": "shop"}, {"service": "shop", "holder": "x", "token": "seven", "expires": 1}]
)
def test_what_is_no_lease_is_refused(fact: Dict[str, object]) -> None:
    with pytest.raises(OptionError, match="not a lease"):
        lease_from(fact)


def test_who_acts_is_the_user_of_the_job_and_else_of_the_machine() -> None:
    assert actor({"awx_user_name": "ada", "tower_user_name": "bob"}) == "ada"
    assert actor({"awx_user_name": "", "tower_user_name": "bob"}) == "bob"
    assert actor({"awx_user_name": 7}) == actor({}) != ""
    assert actor({}) in holder() and str(os.getppid()) in holder()


def test_leases_are_told_by_the_clock_that_processes_share() -> None:
    assert now() > 1_700_000_000


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(TREES)
def test_a_plain_copy_is_equal_and_shares_nothing_that_changes(tree: object) -> None:
    copy = plain(tree)
    assert copy == tree
    assert not isinstance(tree, (list, dict)) or copy is not tree


def test_what_ansible_has_tagged_becomes_plain() -> None:
    tagged = DataLoader().load('{"shop": {"port": 80, "share": 0.5, "up": true, "urls": ["http://web1"]}}')
    copy = plain(tagged)
    assert copy == tagged
    assert pickle.loads(pickle.dumps(copy)) == json.loads(json.dumps(copy)) == copy
    assert {type(key) for key in copy["shop"]} == {str}
    assert type(copy) is type(copy["shop"]) is dict and type(copy["shop"]["urls"]) is list
    assert type(copy["shop"]["urls"][0]) is str
    assert plain((1, 2)) == [1, 2]


class Told(ControllerAction):
    """An action that ends as the test wants it to."""

    SPEC = {"service": {"type": "str"}, "trouble": {"type": "str", "choices": ["none", "ours", "bug"]}}

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        if options["trouble"] == "ours":
            raise DeliveryError("it broke", mend="Mend it", details={"place": "web1"})
        if options["trouble"] == "bug":
            raise KeyError("ours")
        return {"changed": True, "checking": self.checking}


class Task:
    """The little of Ansible's task that an action reads."""

    def __init__(self, check_mode: bool = False, **args: object) -> None:
        self.args, self.check_mode = args, check_mode
        self.async_val = self.delegate_to = self.timeout = None
        self.diff, self.environment, self.collections, self.no_log = False, None, [], False
        self.action = "selfheal.delivery.told"


class Shell:
    tmpdir = ""


class Connection:
    transport, become, _shell = "local", None, Shell()


def told(check_mode: bool = False, **args: object) -> Facts:
    action = Told(Task(check_mode, **args), Connection(), None, None, None, None)
    result: Facts = action.run(task_vars=None)
    return result


def test_an_action_gives_what_it_did() -> None:
    result = told(service="shop", trouble="none")
    assert (result["changed"], result["checking"]) == (True, False)
    assert told(check_mode=True, trouble="none")["checking"] is True


def test_our_own_trouble_names_the_service_and_what_to_do_next() -> None:
    result = told(service="shop", trouble="ours")
    assert (result["failed"], result["msg"], result["place"]) == (True, "shop: it broke. Mend it.", "web1")
    assert told(trouble="ours")["msg"] == "it broke. Mend it."


def test_a_bug_is_not_dressed_up_as_trouble() -> None:
    with pytest.raises(KeyError):
        told(service="shop", trouble="bug")


def test_an_action_without_work_is_no_action() -> None:
    with pytest.raises(NotImplementedError):
        ControllerAction(Task(), Connection(), None, None, None, None).act({}, {})
