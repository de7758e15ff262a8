#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find gates that do not do what they are there for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gate_lint
short_description: Find gates that can never fail, never pass, or look at the wrong thing
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads a service's policy before anything runs, and says what is wrong with its gates, each finding with its reason
    and its mend.
  - Every gate is tried out, too. A synthetic release that is plainly bad must fail it, one that is as good as the
    baseline must not.
  - Asks the source whether it has the metrics, unless O(probe) is off.
  - The task fails when there is an error among the findings.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
  - selfheal.delivery.source
  - selfheal.delivery.source.targets
options:
  source:
    description:
      - What is said here goes over the policy's own source when it is of the same type. That is the way to keep
        credentials out of the policy.
  service:
    description: The service's name, for the messages.
    type: str
    default: ""
  policy:
    description: The service's policy, C(delivery_services[<name>]).
    type: dict
    required: true
  places:
    description: The names of the places. By default those of O(targets).
    type: list
    elements: str
    default: []
  canary:
    description:
      - How many places are on the new release at each step.
      - By default one step over a quarter of the places, rounded up.
    type: list
    elements: int
    default: []
  share:
    description:
      - The part of all requests that the first step gives the new release, between 0 and 1, such as V(0.05).
      - By default places share them evenly.
    type: float
  later:
    description: Of the places, those that nothing can be measured of before the release is there, such as the side of a
      flag that is off.
    type: list
    elements: str
    default: []
  probe:
    description: Ask the source whether it has what the gates name.
    type: bool
    default: true
  strict:
    description: Fail on warnings, too.
    type: bool
    default: false
seealso:
  - module: selfheal.delivery.metric_gate
"""

EXAMPLES = r"""
- name: Are the gates of the shop any good?
  selfheal.delivery.gate_lint:
    service: shop
    policy: "{{ delivery_services.shop }}"
    places: "{{ groups.shop }}"
    probe: false

- name: See what it found, and go on
  selfheal.delivery.gate_lint:
    service: shop
    policy:
      source:
        type: prometheus
        url: https://prometheus.example.org
      traffic: 200
      gates:
        - name: errors
          bad: http_requests_total{job="shop", code=~"5.."}
          total: http_requests_total{job="shop"}
    targets:
      - place: web1
      - place: web2
      - place: web3
    canary: [1, 2]
  register: lint
  ignore_errors: true
"""

RETURN = r"""
findings:
  description: What is wrong, errors first.
  returned: always
  type: list
  elements: dict
  contains:
    level:
      description: V(error) for a gate that does not do what it is there for, V(warning) for one that does it badly.
      type: str
    gate:
      description: The gate's name. Empty where the policy as a whole is meant.
      type: str
    code:
      description: A short name of the finding.
      type: str
    reason:
      description: What is wrong.
      type: str
    mend:
      description: What to do about it.
      type: str
  sample:
    - level: error
      gate: errors
      code: no_such_metric
      reason: "the source does not have it: web1: there is no metric http_request_total"
      mend: Correct the name or the labels
errors:
  description: How many of the findings are errors.
  returned: always
  type: int
  sample: 1
detection:
  description: >-
    By ratio and latency gate, about how many seconds the first step takes to see a release that is twice (C(2x)) or
    five times (C(5x)) as bad, one of which half the requests fail (C(50%)), and to pass a good one (C(pass)). Null
    where it takes more than a day. Empty where nobody knows the traffic.
  returned: always
  type: dict
  sample: {"errors": {"2x": 214.0, "5x": 22.0, "50%": 2.0, "pass": 96.0}}
msg:
  description: All findings in words.
  returned: always
  type: str
  sample: "no findings"
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.lint_task import GATE_LINT, gate_lint
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=GATE_LINT, supports_check_mode=True)
    run(module, lambda called: gate_lint(called.params))


if __name__ == "__main__":
    main()
