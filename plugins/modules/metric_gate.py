#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge one gate by one look."""

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_gate
short_description: Judge one metric by one look at it
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads a metric from the places' own C(/metrics) or from a metrics server, and says V(pass), V(fail) or
    V(inconclusive) with the reason.
  - The verdict is data. The task fails only on wrong options, or where O(fail_on) says so.
  - The chance of a wrong V(fail) or V(pass) is 1 % for a single look. Whoever looks again and again until something
    shows makes it larger, and wants M(selfheal.delivery.canary_bake) instead.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
  - selfheal.delivery.source
  - selfheal.delivery.source.targets
options:
  source:
    required: true
  gate:
    description:
      - What is measured and what it is held against, written as in a service's policy.
      - 'The keys of every type are C(name), C(type) (V(ratio), V(latency) or V(value)) and C(timeout).'
      - 'V(ratio) takes C(bad) and C(total); V(latency) takes C(histogram) and C(over) in seconds; both take C(max),
        C(tolerance), C(margin), C(floor), C(min_bad) and C(min_requests).'
      - 'V(value) takes C(value), C(max), C(pass_max), C(min), C(pass_min) and C(per).'
      - Queries are PromQL selectors. A metrics server takes any other expression, too.
    type: dict
    required: true
  canary:
    description: The names of the places that are judged. By default all that are not in O(baseline).
    type: list
    elements: str
    default: []
  baseline:
    description:
      - The names of the places that they are compared with.
      - Without any, the gate needs a limit (C(max) or C(min)).
    type: list
    elements: str
    default: []
  window:
    description:
      - Count only what happens within so many seconds. By default, everything since the processes began.
      - A metrics server is asked for the last seconds. Places that are scraped are read twice, so that the task takes
        this long.
    type: float
    default: 0
  preset:
    description: Where the defaults of C(min_bad), C(min_requests), C(tolerance) and C(margin) come from.
    type: str
    choices: [careful, balanced, fast]
    default: balanced
  fail_on:
    description: The verdicts on which the task fails.
    type: list
    elements: str
    choices: [fail, inconclusive]
    default: []
seealso:
  - module: selfheal.delivery.metric_info
  - module: selfheal.delivery.gate_lint
"""

EXAMPLES = r"""
- name: Does the shop answer well since it began?
  selfheal.delivery.metric_gate:
    source:
      type: exposition
      url: http://127.0.0.1:8001/metrics
    gate:
      name: errors
      bad: http_requests_total{code=~"5.."}
      total: http_requests_total
      max: 1%
  register: shop

- name: Say so
  ansible.builtin.debug:
    msg: "{{ shop.msg }}"

- name: Stop unless the last five minutes of web1 are as good as those of web2 and web3
  selfheal.delivery.metric_gate:
    source:
      type: prometheus
      url: https://prometheus.example.org
    gate:
      name: slow
      type: latency
      histogram: http_request_duration_seconds{job="shop"}
      over: 0.3
    canary: [web1]
    baseline: [web2, web3]
    window: 300
    fail_on: [fail, inconclusive]
"""

RETURN = r"""
verdict:
  description: V(pass), V(fail) or V(inconclusive).
  returned: success
  type: str
  sample: fail
reason:
  description: >-
    Why: V(limit) or V(baseline) for a fail; V(no_data), V(low_sample), V(provider_error), V(query_error) or
    V(undecided) for an inconclusive verdict; empty for a pass.
  returned: success
  type: str
  sample: limit
gate:
  description: The gate's name.
  returned: success
  type: str
  sample: errors
value:
  description: The measured share, 0 to 1, or the value in its own unit. Null where there is none.
  returned: success
  type: float
  sample: 0.048
limit:
  description: What it is held against. Null where there is no limit.
  returned: success
  type: float
  sample: 0.01
baseline:
  description: The same figure of the baseline. Null where there is none.
  returned: success
  type: float
  sample: null
samples:
  description: How many requests, or values, it was measured on.
  returned: success
  type: dict
  sample: {"canary": 812, "bad": 39, "baseline": 0, "baseline_bad": 0}
evidence:
  description: How far the evidence has come for a C(fail) and for a C(pass), each 0 to 1.
  returned: success
  type: dict
  sample: {"fail": 1.0, "pass": 0.0}
took:
  description: How long the look took, in seconds.
  returned: success
  type: float
  sample: 0.012
absent:
  description: The places without an answer, each with its C(reason) and a C(detail) for a person.
  returned: success
  type: dict
  sample: {}
msg:
  description: The verdict in one sentence.
  returned: success
  type: str
  sample: "errors fails: 0.048 of 812 requests, limit 0.01"
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.gate_task import METRIC_GATE, metric_gate
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=METRIC_GATE, supports_check_mode=True)
    run(module, lambda called: metric_gate(called.params))


if __name__ == "__main__":
    main()
