# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guard_metrics
short_description: The guard's own metrics, as a file for the node exporter or pushed to a Pushgateway
description:
  - Reads the ledger, verifies its chain, and returns metrics in the Prometheus text format. With O(path) or O(gateway),
    they go there, too.
  - Call it from the same timer as C(selfheal.delivery.reconcile). Nothing has to run in between.
  - It runs once for a play, whatever hosts are in it. With C(run_once=true) every host gets the registered result.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
requirements:
  - prometheus_client on the controller
  - requests on the controller, with O(gateway)
attributes:
  check_mode:
    support: full
  diff_mode:
    support: partial
    details:
      - With O(path), the metrics before and after. Not for what is pushed.
  idempotent:
    support: partial
    details:
      - With O(path), it changes something when a metric has changed. The file is written each time, so that the time of
        its last change says when. What is pushed always counts as a change.
options:
  path:
    description:
      - A file in the folder of the node exporter's textfile collector, on the controller. It must end in C(.prom).
      - It is replaced as a whole.
    type: path
  gateway:
    description: The address of a Pushgateway, up to, but without, C(/metrics). It may hold user and password.
    type: str
  job:
    description: The label C(job) of what is pushed.
    type: str
    default: selfheal
  instance:
    description: The label C(instance) of what is pushed. By default the controller's host name.
    type: str
  timeout:
    description: How many seconds the Pushgateway may take.
    type: float
    default: 10
  guard:
    description: The policy by which the breakers are read, C(delivery_services.<service>.guard). Without it, the
      defaults.
    type: dict
    default: {}
  guards:
    description: The same by service, as the ledger knows it, for services with policies of their own.
    type: dict
    default: {}
  verify:
    description:
      - Whether to verify the chain, for C(selfheal_chain_ok). Without it, that metric is not there.
      - It reads the whole ledger. Where that takes too long each minute, verify now and then by
        M(selfheal.delivery.ledger_verify).
    type: bool
    default: true
seealso:
  - module: selfheal.delivery.heartbeat
  - module: selfheal.delivery.guard_info
"""

EXAMPLES = r"""
- name: Metrics for the node exporter
  selfheal.delivery.guard_metrics:
    path: /var/lib/node_exporter/textfile/selfheal.prom
    guards:
      production/shop: "{{ delivery_services.shop.guard }}"

- name: Metrics of a controller that is thrown away after each job
  selfheal.delivery.guard_metrics:
    gateway: http://pushgateway.example.org:9091
    instance: awx
"""

RETURN = r"""
metrics:
  description:
    - The metrics, each with its C(HELP). They begin with C(selfheal_).
    - Counters are C(decisions_total), C(suppressed_total), C(outcomes_total) and C(verified_total); a summary is
      C(action_duration_seconds).
    - Gauges are C(last_success_timestamp_seconds), C(breaker_state), C(cooldown_end_timestamp_seconds),
      C(pause_end_timestamp_seconds), C(unfinished_rollouts), C(chain_ok), C(chain_entries), C(clock_drift_seconds) and
      C(watchdog_seen_timestamp_seconds).
  returned: success
  type: str
  sample: |
    # HELP selfheal_decisions_total Answers to the question whether to act.
    # TYPE selfheal_decisions_total counter
    selfheal_decisions_total{action="rollback",service="production/shop",verdict="allowed"} 1.0
msg:
  description: Where they went, or what went wrong.
  returned: always
  type: str
  sample: metrics of 3 services to /var/lib/node_exporter/textfile/selfheal.prom
"""
