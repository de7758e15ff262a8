# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A metric in an expression."""

from __future__ import annotations

DOCUMENTATION = r"""
name: metric
short_description: Read a value, or counts, from the places or from a metrics server
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads now what M(selfheal.delivery.metric_info) reads, and returns one answer for each term.
  - Without a number, the lookup fails and says why, unless there is a O(default). No data is never silently V(0).
extends_documentation_fragment:
  - selfheal.delivery.source.plugin
options:
  _terms:
    description:
      - The metrics to read, each a PromQL selector. A metrics server takes any other expression, too.
      - With O(total), the counters of bad events.
    required: true
    type: list
    elements: str
  total:
    description: The counter of all events. The answer is then a dictionary with C(bad), C(total) and their C(rate).
    type: str
  place:
    description: The place that is asked, where the metrics server knows several.
    type: str
  default:
    description: What is returned in place of an error when there is no number.
    type: raw
  timeout:
    description: How long a query may take, in seconds.
    type: float
    default: 5
seealso:
  - module: selfheal.delivery.metric_info
  - module: selfheal.delivery.metric_gate
"""

EXAMPLES = r"""
- name: How many requests are in flight?
  ansible.builtin.debug:
    msg: "{{ lookup('selfheal.delivery.metric', 'http_requests_in_flight', source=page) }}"
  vars:
    page:
      type: exposition
      url: http://127.0.0.1:8001/metrics

- name: What does the metrics server of SELFHEAL_PROMETHEUS_URL say of the queue, if anything?
  ansible.builtin.debug:
    msg: "{{ lookup('selfheal.delivery.metric', 'sum(queue_length)', default=none) }}"

- name: Bad and all requests since the process began
  ansible.builtin.debug:
    msg: "{{ lookup('selfheal.delivery.metric', 'http_requests_total{code=~\"5..\"}', total='http_requests_total') }}"
"""

RETURN = r"""
_raw:
  description: >-
    For each term a number; or with O(total) a dictionary with C(bad), C(total) and C(rate), which is null while nothing
    was counted; or the O(default).
  type: list
  elements: raw
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.lookup_metric import Wanted, read
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import failure

_SOURCE = ("url", "token", "token_file", "username", "password")


class LookupModule(LookupBase):
    def run(self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> List[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        told: Dict[str, object] = {key: self.get_option(key) for key in _SOURCE}
        wanted = Wanted(
            total=self.get_option("total") or "",
            place=self.get_option("place") or "",
            timeout=self.get_option("timeout"),
            has_default="default" in kwargs,
            default=self.get_option("default"),
        )
        try:
            return read(list(terms), self.get_option("source"), told, wanted)
        except Exception as error:
            message = str(failure(error)["msg"])
        # raised here, so that the first error's own text, which nobody has checked for secrets, is not chained to it
        raise AnsibleLookupError(message)
