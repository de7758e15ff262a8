# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heartbeat
short_description: A dead man's switch, for this controller and for the alerts that it acts on
description:
  - O(state=sent) writes a heartbeat that others alarm on when it stops. It is sent only when the ledger can be written,
    because a controller without its ledger cannot act.
  - O(state=seen) records that the Watchdog was seen, an alert that always fires. Call it from whatever receives alerts.
  - O(state=checked) says whether the Watchdog keeps coming. A guard's policy with C(watchdog) checks the same before it
    acts on an alert. Pipelines and people are never stopped by it.
  - It runs once for a play, whatever hosts are in it. With C(run_once=true) every host gets the registered result.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
requirements:
  - requests on the controller, with O(url) or O(gateway)
  - prometheus_client on the controller, with O(gateway)
attributes:
  check_mode:
    support: full
    details:
      - The ledger is read, and nothing is sent or recorded.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each heartbeat is a new one. O(state=checked) changes nothing.
options:
  state:
    description:
      - V(sent) needs O(path), O(gateway) or O(url), and sends to all that are named, even when one of them fails.
      - V(seen) and V(checked) are about the Watchdog alert.
    type: str
    required: true
    choices: [sent, seen, checked]
  path:
    description: A file on the controller, which is replaced by a JSON document with C(at), C(every), C(host) and
      C(head).
    type: path
  gateway:
    description:
      - The address of a Pushgateway, up to, but without, C(/metrics). It may hold user and password.
      - It gets C(selfheal_heartbeat_timestamp_seconds) and C(selfheal_heartbeat_interval_seconds).
    type: str
  job:
    description: The label C(job) of what is pushed. Another one than that of M(selfheal.delivery.guard_metrics).
    type: str
    default: selfheal
  instance:
    description: Whose heartbeat it is. By default the controller's host name.
    type: str
  url:
    description:
      - An address that waits for regular requests, as monitors of cron jobs have them.
      - It is as good as a password, and nothing but its host is ever shown. When it is not set, the environment
        variable E(SELFHEAL_HEARTBEAT_URL) counts.
    type: str
  method:
    description: How O(url) is requested. V(POST) sends the document that is described at O(path).
    type: str
    choices: [GET, POST]
    default: GET
  every:
    description: After how long the next heartbeat is due, such as V(60s). It goes into the file and the metric.
    type: str
    default: 60s
  timeout:
    description: How many seconds O(url) and O(gateway) may take each.
    type: float
    default: 10
  at:
    description: When the Watchdog was seen, in seconds since the epoch. By default now. It may not lie before the last
      time.
    type: float
  source:
    description: Who has told that the Watchdog was seen, such as the name of an Alertmanager.
    type: str
    default: ""
  max_silence:
    description: For how long the Watchdog may be silent, such as V(5m).
    type: str
    default: 5m
  on_silent:
    description: Whether O(state=checked) fails, or only warns, when the Watchdog is silent.
    type: str
    choices: [fail, warn]
    default: fail
seealso:
  - module: selfheal.delivery.guard_metrics
"""

EXAMPLES = r"""
- name: Say that this controller is alive
  selfheal.delivery.heartbeat:
    state: sent
    path: /var/lib/selfheal/heartbeat.json
    url: "{{ vault_heartbeat_url }}"

# The rule that alarms when the pushed one stops; docs/ledger.md has the others:
#   expr: absent(selfheal_heartbeat_timestamp_seconds)
#     or time() - selfheal_heartbeat_timestamp_seconds > 3 * selfheal_heartbeat_interval_seconds
- name: Say so to a Pushgateway
  selfheal.delivery.heartbeat:
    state: sent
    gateway: http://pushgateway.example.org:9091

- name: The Watchdog alert has come
  selfheal.delivery.heartbeat:
    state: seen
    source: alertmanager eu-1

- name: Alerts must be alive before anything is left to them
  selfheal.delivery.heartbeat:
    state: checked
    max_silence: 10m
"""

RETURN = r"""
at:
  description: When the heartbeat was sent, or the Watchdog seen last, in seconds since the epoch. V(null) when never.
  returned: always
  type: float
  sample: 1795251593.85
sent_to:
  description: Where the heartbeat went.
  returned: for O(state=sent)
  type: list
  elements: str
  sample: [/var/lib/selfheal/heartbeat.json, url hc.example.org]
alive:
  description: Whether the Watchdog keeps coming.
  returned: for O(state=checked)
  type: bool
  sample: true
msg:
  description: The same in words, or what went wrong.
  returned: always
  type: str
  sample: heartbeat sent to /var/lib/selfheal/heartbeat.json, url hc.example.org
"""
