# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last known good release of a service, in an expression."""

from __future__ import annotations

DOCUMENTATION = r"""
name: known_good
short_description: The last release of a service that passed its bake, by the ledger
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads the ledger on the controller and returns, for each service, the newest release that passed its bake and was
    not found bad in a later one. With it comes what was recorded of it, which outlives what a cluster prunes.
  - It is what the ledger knows. What runs on a place, and where that place would go back to, is told by
    M(selfheal.delivery.release_info).
options:
  _terms:
    description: The services, each as the ledger knows it, environment and name, such as V(production/shop).
    required: true
    type: list
    elements: str
  ledger:
    description:
      - Where the ledger is, as O(selfheal.delivery.ledger_info#module:ledger) takes it.
    type: dict
    default: {}
    vars:
      - name: delivery_ledger
  default:
    description: What is returned in place of an error for a service without a known good release.
    type: raw
seealso:
  - module: selfheal.delivery.ledger_info
  - module: selfheal.delivery.release_info
"""

EXAMPLES = r"""
- name: What would we go back to?
  ansible.builtin.debug:
    msg: "{{ lookup('selfheal.delivery.known_good', 'production/shop').release }}"

- name: Restore a known good release that the cluster has pruned
  selfheal.delivery.kubernetes_rollback:
    service: production/shop
    namespace: shop
    name: shop
    to: "{{ good.release }}"
    template: "{{ good.recorded.eu.template }}"
  vars:
    good: "{{ lookup('selfheal.delivery.known_good', 'production/shop') }}"
"""

RETURN = r"""
_raw:
  description: >-
    For each service a dictionary with C(service), C(release), C(rollout), its id, C(at) in seconds since the epoch,
    C(by), and C(recorded), which has by place the C(template) and C(images) that were kept, where it is a cluster.
  type: list
  elements: raw
"""

from contextlib import closing
from typing import Any, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import failure
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, nearest
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import known_services, last_known_good
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger


class LookupModule(LookupBase):
    def run(self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> List[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return self._all([str(term) for term in terms], has_default="default" in kwargs)
        except Exception as error:
            message = str(failure(error)["msg"])
        raise AnsibleLookupError(message)

    def _all(self, services: Sequence[str], *, has_default: bool) -> List[Any]:
        with closing(open_ledger(self.get_option("ledger"), create=False)) as ledger:
            return [self._one(ledger, service, has_default=has_default) for service in services]

    def _one(self, ledger: Ledger, service: str, *, has_default: bool) -> Any:
        good = last_known_good(ledger, service)
        if good is not None:
            return good.as_dict()
        if has_default:
            return self.get_option("default")
        raise OptionError(
            f"the ledger has no known good release of {service!r}{nearest(service, known_services(ledger))}",
            mend="Release it, or watch what runs with playbooks/watch.yml; default says what to return instead",
        )
