#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Measure, without judging."""

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_info
short_description: Measure counts and values at places, without judging them
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Asks a source all queries of all places at the same time, and returns what each place answered, or why it did not.
  - A source or a place that is down is an answer, too. The task fails only on wrong options.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
  - selfheal.delivery.source
  - selfheal.delivery.source.targets
options:
  source:
    required: true
  queries:
    description: What is asked of every place.
    type: list
    elements: dict
    required: true
    suboptions:
      gate:
        description: The name that the answers are returned under.
        type: str
        required: true
      bad:
        description: The counter of bad events, with O(queries[].total).
        type: str
      total:
        description: The counter of all events.
        type: str
      histogram:
        description: The histogram of which the observations above O(queries[].over) are counted as bad.
        type: str
      over:
        description: The limit in the histogram's unit, seconds as a rule. There has to be a bucket edge.
        type: float
      value:
        description: A number of each place.
        type: str
      timeout:
        description: How long this query may take, in seconds.
        type: float
        default: 5
seealso:
  - module: selfheal.delivery.metric_gate
  - plugin: selfheal.delivery.metric
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: How many requests has each place answered, and how many badly?
  selfheal.delivery.metric_info:
    source:
      type: exposition
    targets:
      - place: web1
        url: http://192.0.2.1:8001/metrics
      - place: web2
        url: http://192.0.2.2:8001/metrics
    queries:
      - gate: errors
        bad: http_requests_total{code=~"5.."}
        total: http_requests_total
  register: measured

- name: Say who is up
  ansible.builtin.debug:
    msg: "{{ measured.sample.presence | dict2items | selectattr('value.up') | map(attribute='key') }}"
"""

RETURN = r"""
sample:
  description: Everything that was measured.
  returned: success
  type: dict
  contains:
    at:
      description: When it was asked, in seconds since the epoch.
      type: float
    answers:
      description: >-
        By query and place: cumulative C(bad) and C(total) with the instant C(at) and the process's C(start); or a
        C(value) with C(at); or C(absent) with the reason (V(no_series), V(stale), V(not_a_number), V(several_series),
        V(provider_error), V(query_error)) and a C(detail) for a person.
      type: dict
    presence:
      description: By place, whether it is C(up), the C(start) of its process where it is known, and a C(detail).
      type: dict
    down:
      description: Why the source itself could not be asked. Null when it could.
      type: dict
    took:
      description: How long it took, in seconds.
      type: float
    warnings:
      description: What the metrics server warned of.
      type: list
      elements: str
  sample:
    at: 1795251593.85
    answers:
      errors:
        web1: {"at": 1795251593.87, "bad": 4.0, "total": 812.0, "start": 1795251000.1}
        web2: {"absent": "provider_error", "detail": "http://192.0.2.2:8001/metrics refuses the connection"}
    presence:
      web1: {"up": true, "start": 1795251000.1, "detail": ""}
      web2: {"up": false, "start": null, "detail": "http://192.0.2.2:8001/metrics refuses the connection"}
    down: null
    took: 0.021
    warnings: []
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.info_task import METRIC_INFO, metric_info
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=METRIC_INFO, supports_check_mode=True)
    run(module, lambda called: metric_info(called.params))


if __name__ == "__main__":
    main()
