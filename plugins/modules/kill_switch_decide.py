# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kill_switch_decide
short_description: Find out which feature flag is to be turned, whether it is bad, and ask the guard, in one task
description:
  - What role P(selfheal.delivery.kill_switch#role) does before anything changes. Looks up which flag is meant, asks
    whether the service is bad, and asks the guard, which writes down the intent together with its yes.
  - Only a flag that O(policy) lists under C(flags) is ever turned. Which one is said by a person (O(flag)), by the
    catalogue about the error code of O(trigger), or by the C(flag) of O(policy); no text of an event says it.
  - Whether it is bad is said by the alert's own source (O(answer)); for an error code that no alert brought, by the
    code's own figures since the service was changed, where a metrics server remembers them; else by the service's
    gates. A person is not asked for proof.
  - Delegate it to the host that takes the measurements. All else is done on the controller wherever it is delegated to.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - action_common_attributes
  - action_common_attributes.actiongroups
  - action_common_attributes.flow
  - selfheal.delivery.attributes.play
  - selfheal.delivery.attributes.asking
  - selfheal.delivery.deciding
  - selfheal.delivery.fleet
  - selfheal.delivery.ledger
attributes:
  action_group:
    membership: [selfheal.delivery.all]
options:
  state:
    description:
      - What is asked for. V(on) is for persons alone.
    type: str
    choices: ["off", "on"]
    default: "off"
  policy:
    description: The service's policy, as it stands in C(delivery_services), with its gates and its flags.
    type: dict
    required: true
  flags:
    description: What the inventory says for the flags of all services, C(delivery_flags).
    type: dict
    default: {}
  flag:
    description: The flag. By default the error code's, or the policy's.
    type: str
    default: ""
  answer:
    description:
      - What the alert's own source said, as RV(selfheal.delivery.respond_plan#module:answer). Empty when nobody asked.
    type: dict
    default: {}
  response:
    description:
      - The ways back in the order to try, of C(rollback), C(flag_off), C(restart) and C(page). What follows C(flag_off)
        is RV(then). By default those of the error code's entry, or of the policy.
    type: list
    elements: str
    default: []
  catalogue:
    description: The file with the catalogue of error codes. A trigger of kind V(error_code) needs it.
    type: path
seealso:
  - module: selfheal.delivery.feature_flag
  - module: selfheal.delivery.guard
"""

EXAMPLES = r"""
- name: May it be turned off, and which one is it?
  selfheal.delivery.kill_switch_decide:
    service: production/shop
    group: shop
    policy: "{{ delivery_services.shop }}"
    flags: "{{ delivery_flags }}"
    reason: The search answers too slowly
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
next:
  description: V(turn) after a yes of the guard, and V(denied) after a no.
  returned: success
  type: str
  sample: turn
flag:
  description: The flag. Empty when RV(problem) says why there is none to turn.
  returned: success
  type: str
  sample: new-search
problem:
  description:
    - Why no flag can be turned, such as a name that the policy does not list. For a person that is a failure; for all
      others the incident goes on, and RV(then) is next.
  returned: success
  type: str
  sample: ""
switch:
  description: What the policy says of the flag, without how its provider is reached.
  returned: success
  type: dict
  sample: {flag: new-search, environment: production, project: default, serve: false, context: {}, deadline: 10.0,
    refresh: 15.0}
then:
  description: What to do where turning it off does not help, V(rollback) or V(page).
  returned: success
  type: str
  sample: rollback
why:
  description: Why, in one sentence.
  returned: success
  type: str
  sample: alert ShopErrors
by:
  description: Who runs this, as the ledger has it.
  returned: success
  type: str
  sample: ada
runbook:
  description: Where a person reads on, by the policy or by the error code's entry.
  returned: success
  type: str
  sample: https://runbooks.example.org/shop
trigger:
  description: The trigger as the guard was told it, with an id by which the next way back is about the same incident.
  returned: success
  type: dict
  sample: {kind: alert, name: ShopErrors, id: 3fae0c11-1795251593, evidence: {}}
confirmed:
  description: Who was asked whether it is bad, and what they said; empty when nobody was.
  returned: success
  type: dict
  sample: {confirmed: true, reason: alertmanager says that ShopErrors fires}
lease_ttl:
  description: How long the lease was taken for, with the wait for clients that poll.
  returned: success
  type: float
  sample: 75.0
allowed:
  description: Whether it may be turned. This and all else is what M(selfheal.delivery.guard) returns.
  returned: success
  type: bool
  sample: true
msg:
  description: The guard's answer, or what is wrong.
  returned: always
  type: str
  sample: "production/shop: Nothing stands against it."
"""
