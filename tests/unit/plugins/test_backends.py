# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong backend_options are told by whoever only looks: nothing has been begun then."""

from __future__ import annotations

from typing import Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._backends import info_of


@pytest.mark.parametrize(
    "backend, own, said",
    [
        ("deployment", {"imagse": {}}, r"backend deployment has no option 'imagse' \(did you mean 'images'\?\)"),
        ("argo_rollout", {"analysys": "read"}, "did you mean 'analysis'"),
        ("helm", {"charts": "./shop"}, "did you mean 'chart'"),
        ("git", {"repositry": "https://git.example.org/shop"}, "did you mean 'repository'"),
    ],
)
def test_an_option_that_the_backend_does_not_have(backend: str, own: Dict[str, object], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        info_of(backend, {"backend": backend, "backend_options": own, "service": "test/shop"})


def test_those_that_say_where_it_is_go_to_the_info_module_by_aliases_too() -> None:
    own = {"verify_ssl": False, "namespace": "prod", "name": "shop", "images": {"app": "shop:{release}"}}
    module, where = info_of("deployment", {"backend": "deployment", "backend_options": own, "service": "test/shop"})
    assert module == "selfheal.delivery.kubernetes_rollout_info"
    assert where == {"verify_ssl": False, "namespace": "prod", "name": "shop"}
