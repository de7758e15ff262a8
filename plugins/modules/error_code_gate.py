#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask whether an error code is new, or raised, since a deploy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: error_code_gate
short_description: Ask whether an error code is new, or raised, since a deploy
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Asks a metrics server how often a service sent an error code before and after a change, and says whether the change
    may be blamed for it.
  - V(fail) is a code that is V(new) or V(raised), beyond chance. V(pass) is one that is shown not to be. Anything else,
    and any want of data, is V(inconclusive). Nobody is rolled back on that.
  - The counts before and after are compared by the exact conditional binomial test at 1 %, over the whole time since
    the change and over the newest part of it, each at half the level. Errors that come in bursts are no independent
    events. O(ratio) and O(min_count) are what keeps a burst from counting.
  - The verdict is data. The task fails only on wrong options, or where O(fail_on) says so.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
  - selfheal.delivery.source
options:
  source:
    description: Where metrics come from. It has to be of type V(prometheus), for a page of metrics knows no past.
    required: true
  code:
    description: The error code.
    type: str
    required: true
  service:
    description: The value of the metric's label C(service).
    type: str
    required: true
  environment:
    description: The value of the metric's label C(environment).
    type: str
    required: true
  changed_at:
    description: When the change was, in seconds since the epoch.
    type: float
    required: true
  catalogue:
    description:
      - The catalogue of error codes. With it an unknown code is an error, O(ratio) and O(min_count) are the code's own,
        and a code that no deploy can have caused never RV(counts).
    type: path
  metric:
    description: The counter of errors, a PromQL selector. The labels of the code and of the service are added to it.
    type: str
    default: app_errors_total
  total:
    description:
      - The counter of all requests of the service, a PromQL selector. Errors are then counted per request, so that more
        traffic alone does not raise a code.
      - When it is empty, errors are counted per second in which the metrics server had any error counter of the
        service. An application that sets all its counters to 0 at its start makes that known from its first second on.
    type: str
    default: ""
  before:
    description: How long before the change to look, in seconds.
    type: float
    default: 3600
  after:
    description: How long after the change errors may count, in seconds.
    type: float
    default: 3600
  recent:
    description: How long the newest part is that is looked at by itself, in seconds, for what begins late.
    type: float
    default: 300
  ratio:
    description: Up to so many times as frequent as before is not raised. By default the code's own, or else V(2).
    type: float
  min_count:
    description: Fewer errors since the change never count. By default the code's own, or else V(5).
    type: int
  fail_on:
    description: The verdicts on which the task fails.
    type: list
    elements: str
    choices: [fail, inconclusive]
    default: []
seealso:
  - module: selfheal.delivery.metric_gate
  - plugin: selfheal.delivery.error_code
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Did the release of ten minutes ago raise it?
  selfheal.delivery.error_code_gate:
    source:
      type: prometheus
      url: https://prometheus.example.org
    catalogue: "{{ playbook_dir }}/error_codes.yml"
    code: SHOP-CART-001
    service: shop
    environment: production
    changed_at: "{{ now().timestamp() - 600 }}"
    total: http_requests_total{job="shop"}
  register: cart

- name: Say so
  ansible.builtin.debug:
    msg: "{{ cart.msg }}"
"""

RETURN = r"""
verdict:
  description: V(fail) for a code that is new or raised, V(pass) for one that is shown not to be, or V(inconclusive).
  returned: success
  type: str
  sample: fail
reason:
  description: >-
    V(new) or V(raised) for a fail; V(no_data), V(low_sample), V(undecided), V(provider_error) or V(query_error) for an
    inconclusive verdict; empty for a pass.
  returned: success
  type: str
  sample: raised
code:
  description: The error code.
  returned: success
  type: str
  sample: SHOP-CART-001
counts:
  description: May it count for a rollback? Only a fail does, and only of a code that a deploy can have caused.
  returned: success
  type: bool
  sample: true
attributable:
  description: Whether a deploy can have caused it, by the catalogue. Null without one.
  returned: success
  type: bool
  sample: true
before:
  description: >-
    The errors before the change, their C(count), the C(exposure) in C(unit)s, the C(rate), and the time C(from) and
    C(to) in seconds since the epoch. Null where the metrics server did not answer.
  returned: success
  type: dict
  sample: {"count": 3, "exposure": 3600, "rate": 0.00083, "from": 1790000000, "to": 1790003600}
after:
  description: The same since the change.
  returned: success
  type: dict
  sample: {"count": 40, "exposure": 600, "rate": 0.067, "from": 1790003600, "to": 1790004200}
recent:
  description: The same of the newest part since the change. Null while the change is too fresh to have one.
  returned: success
  type: dict
  sample: null
unit:
  description: What errors are held against, V(requests) or V(seconds).
  returned: success
  type: str
  sample: seconds
versions:
  description: How many of the errors since the change each version sent.
  returned: success
  type: dict
  sample: {"2.0.0": 40}
chance:
  description: The p-value of what spoke loudest for a fail. Null where nothing could be compared.
  returned: success
  type: float
  sample: 1.0e-12
msg:
  description: The verdict in one sentence.
  returned: always
  type: str
  sample: >-
    SHOP-CART-001 of production/shop is raised since the deploy: 3 in 3600 seconds before, 40 in 600 seconds since
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.code_tasks import (
    ERROR_CODE_GATE,
    error_code_gate,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ERROR_CODE_GATE, supports_check_mode=True)
    run(module, lambda called: error_code_gate(called.params))


if __name__ == "__main__":
    main()
