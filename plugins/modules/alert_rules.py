# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_rules
short_description: Make Prometheus' alert rules of the services' gates, and of a catalogue of error codes
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Every gate in C(delivery_services) that counts bad requests gets alerts on its error budget, in several windows at
    once, by release and for the whole service. Gates of type C(latency) count the requests that took too long.
  - C(ReleaseBurnsBudget) says which release burns the budget fast, and asks for a rollback by the label C(response).
    C(ServiceBurnsBudget) pages. C(ServiceUnseen) pages when a metric is not there, without which no alert could fire.
  - The rules are made on the controller, from each service's policy as its own first host sees it. Where there is a
    O(path), they are checked and kept on the host that the play is on, by M(selfheal.delivery.alert_file).
  - The same services always give the same text. What stands in a policy is data, and cannot break out of PromQL, YAML
    or templates.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.alerting
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description: The file of rules, on the host that the play is on. Without it the text is returned.
  services:
    description: The services. By default every group of the inventory that has a policy of its name.
    type: list
    elements: str
    default: []
  objective:
    description:
      - The share of requests that must be good, for gates that do not say it. A C(burn_rate) gate has its C(slo).
    type: str
    default: 99.9%
  objectives:
    description: Objectives by service, and by gate in it.
    type: dict
    default: {}
  windows:
    description:
      - Pairs of windows. An alert fires when the budget burns faster than the factor in both.
      - By default those of the Site Reliability Workbook for a budget of 30 days, which are 14.4 in 1h and 5m, and 6 in
        6h and 30m, as critical, and 3 in 24h and 2h, and 1 in 72h and 6h, as warnings.
    type: list
    elements: dict
    default: []
    suboptions:
      long:
        description: The window that says that it matters, such as V(1h).
        type: str
        required: true
      short:
        description: The window that says that it still goes on. By default a twelfth of the long one.
        type: str
      factor:
        description: How many times faster than the budget allows.
        type: float
        required: true
      severity:
        description: What it is worth. Only a V(critical) one asks for a rollback.
        type: str
        choices: [critical, warning]
        default: critical
  labels:
    description: Which labels tell Prometheus' series apart. An empty one is not there.
    type: dict
    suboptions:
      service:
        description: The label with the service's name.
        type: str
        default: service
      environment:
        description: The label with C(delivery_environment), where there is one.
        type: str
        default: environment
      version:
        description:
          - The label with the release that runs. Without it nobody can tell which release it is, and it is
            C(ServiceBurnsBudget) that asks for a rollback.
        type: str
        default: version
  series:
    description:
      - By service, the labels and values by which Prometheus tells its series, in place of service and environment.
    type: dict
    default: {}
  for:
    description: How long an alert's condition has to hold.
    type: str
    default: 1m
  keep_firing_for:
    description: How long it has to be quiet until the alert ends. It needs Prometheus 2.42 or newer.
    type: str
    default: 5m
  silent_for:
    description: How long a metric may be missing.
    type: str
    default: 10m
  watchdog:
    description: The name of the alert that fires always. Empty for none.
    type: str
    default: Watchdog
  catalogue:
    description: A catalogue of error codes on the controller, whose alerts come into the same file.
    type: path
  metric:
    description: The counter of errors, as O(selfheal.delivery.error_code_rules#module:metric).
    type: str
    default: app_errors_total
seealso:
  - module: selfheal.delivery.alert_route
  - module: selfheal.delivery.error_code_rules
"""

EXAMPLES = r"""
- name: Alert on every service of the inventory
  hosts: prometheus
  tasks:
    - name: Keep the rules
      selfheal.delivery.alert_rules:
        path: /etc/prometheus/rules/selfheal.yml
        catalogue: "{{ playbook_dir }}/error_codes.yml"
        objectives:
          shop: {slow: "99%"}
        series:
          shop: {job: shop-web}
        reload_url: http://127.0.0.1:9090
"""

RETURN = r"""
content:
  description: The text of the rules.
  returned: without O(path)
  type: str
  sample: "groups: []"
path:
  description: The file.
  returned: with O(path)
  type: str
  sample: /etc/prometheus/rules/selfheal.yml
checked_by:
  description: The program that found the rules to be right; empty where there is none, which is warned of.
  returned: with O(path)
  type: str
  sample: /usr/bin/promtool
reloaded:
  description: Whether Prometheus was asked to read the rules, and has.
  returned: with O(path)
  type: bool
  sample: true
alerts:
  description: The names of the alerts, by service.
  returned: success
  type: dict
  sample:
    production/shop: [ReleaseBurnsBudget, ServiceBurnsBudget, ServiceUnseen]
unwatched:
  description: The gates that no alert watches, and why. Each is warned of.
  returned: success
  type: list
  elements: dict
  sample:
    - {service: shop, gate: memory, why: a value gate counts no bad requests}
"""
