# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guard_info
short_description: What the guard remembers of services, and what stands against acting on them
description:
  - Reads the ledger on the controller. Nothing is created or changed.
  - Whether a breaker is open, and until when a cooldown lasts, follows from what is remembered and from the policy
    O(guard).
  - It runs once for a play, whatever hosts are in it. With C(run_once=true) every host gets the registered result.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
  - selfheal.delivery.ledger
options:
  service:
    description: Only this service. By default every one that the guard remembers something of.
    type: str
    default: ""
  guard:
    description:
      - The guard's policy, C(delivery_services.<service>.guard). Without it, the defaults.
      - It is read for every service that is asked about, so name the O(service) whose policy it is.
    type: dict
    default: {}
seealso:
  - module: selfheal.delivery.guard
  - module: selfheal.delivery.ledger_info
"""

EXAMPLES = r"""
- name: What stands against acting on the shop?
  selfheal.delivery.guard_info:
    service: production/shop
    guard: "{{ delivery_services.shop.guard }}"
  register: remembered

- name: What waits for approval?
  ansible.builtin.debug:
    msg: "{{ item.decision }}: {{ item.action }} of {{ item.release }} to {{ item.target }}"
  loop: "{{ remembered.services[0].recommendations | rejectattr('approved_by') }}"
"""

RETURN = r"""
services:
  description: One for each service. Times are seconds since the epoch.
  returned: success
  type: list
  elements: dict
  contains:
    service:
      description: The service.
      type: str
      sample: production/shop
    breaker:
      description: >-
        C(state) is V(closed), V(open) or V(half_open), which lets one try through. C(until) is when an open one does
        so, and C(failures) how many actions in a row have failed or did not help.
      type: dict
      sample: {state: open, until: 1795255193.85, failures: 1}
    cooldown_until:
      description: Until when it is not healed again, or V(null).
      type: float
      sample: 1795252493.85
    pause:
      description: Its own pause, or V(null).
      type: dict
      sample: null
    changed_at:
      description: When the last change of it was done, or V(null).
      type: float
      sample: 1795250000.12
    acted_at:
      description: When it was healed last, or taken back, or V(null).
      type: float
      sample: 1795251593.85
    actions:
      description: How many healing actions were allowed within the policy's window.
      type: int
      sample: 1
    steps_back:
      description: How many rollbacks there were since the last rollout that passed.
      type: int
      sample: 1
    running:
      description: The id of the rollout or action that is not finished, or V(null).
      type: str
      sample: null
    recommendations:
      description: What was recommended, and can still be approved or carried out. C(approved_by) is empty until then.
      type: list
      elements: dict
      sample:
        - {decision: 5f2c81d09ab4, action: rollback, release: 2.0.1, target: 1.0.0, until: 1795253393.85,
           condition: "alert:ShopErrors", approved_by: "", used: false}
    conditions:
      description: >-
        What fires now, or was acted on. C(level) is a multiple of its limit, where it was told, C(firing) how many
        incidents of it are not over.
      type: list
      elements: dict
      sample:
        - {condition: "alert:ShopErrors", since: 1795251500.1, firing: 1, level: 3.2, acted_at: null}
    counters:
      description: As RV(selfheal.delivery.ledger_info#module:statistics) has them.
      type: dict
      sample: {"decisions:rollback:allowed": 1, "outcomes:rollback:done": 1}
pauses:
  description: Who stopped what until when. C(service) is empty for the pause of every service, C(until) V(null)
    without end.
  returned: success
  type: list
  elements: dict
  sample:
    - {service: "", by: ada, at: 1795251593.85, reason: "CHG-1234, the database moves", until: null}
alarming:
  description: The services of which an alert or an error code is active.
  returned: success
  type: list
  elements: str
  sample: [production/shop]
watchdog_at:
  description: When the Watchdog alert was seen last, in seconds since the epoch, or V(null).
  returned: success
  type: float
  sample: 1795251590.0
policy:
  description: The version of the policy, as decisions name it.
  returned: success
  type: str
  sample: 44136fa355b3
"""
