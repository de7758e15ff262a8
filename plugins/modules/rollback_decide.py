# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback_decide
short_description: Find out all that a rollback depends on, and ask the guard, in one task
description:
  - What role P(selfheal.delivery.rollback#role) does before anything changes. Looks for what an earlier run left
    unfinished, pins what each place goes back to, asks the service's own gates whether it is bad, and asks the guard,
    which writes down the intent together with its yes.
  - It is M(selfheal.delivery.rollout) with C(state=due), M(selfheal.delivery.rollback_plan),
    M(selfheal.delivery.canary_bake) with C(phase=confirm) and M(selfheal.delivery.guard) with C(command=acquire), one
    after the other. A task takes longer to begin than most of these take, and going back waits for all of them.
  - Where something else comes first, it asks nobody, and says so in RV(next).
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
  - selfheal.delivery.fleet.plan
  - selfheal.delivery.ledger
attributes:
  action_group:
    membership: [selfheal.delivery.all]
options:
  policy:
    description: The service's policy, as it stands in C(delivery_services), with its gates.
    type: dict
    required: true
  release:
    description: The release to leave, as O(selfheal.delivery.rollback_plan#module:release).
    type: str
    default: ""
  batches:
    description: How many places go back at once, as O(selfheal.delivery.rollback_plan#module:batches).
    type: list
    elements: raw
    default: ["100%"]
  confirm:
    description: Ask the gates first. Only a person may switch it off; other triggers are asked about in any case.
    type: bool
    default: true
  code:
    description:
      - What was found out about the error code that O(trigger) names. C(blamed) says whether it may be held against the
        release, V(yes), V(no) or V(unknown), and C(evidence) is kept with the decision.
      - A trigger of kind V(error_code) needs it. Without it, that is what is RV(next).
    type: dict
    default: {}
  after:
    description: The id of another action on the same trigger that did not help, as in M(selfheal.delivery.guard).
    type: str
    default: ""
  settled:
    description: What an earlier run left unfinished has been settled as far as it can be.
    type: bool
    default: false
seealso:
  - module: selfheal.delivery.rollback_plan
  - module: selfheal.delivery.guard
"""

EXAMPLES = r"""
- name: May it go back, and where to?
  selfheal.delivery.rollback_decide:
    service: production/shop
    group: shop
    states: "{{ dict(groups.shop | zip(groups.shop | map('extract', hostvars, 'shop_state'))) }}"
    policy: "{{ delivery_services.shop }}"
    reason: Support sees empty baskets
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
next:
  description:
    - What is next. V(settle) is what an earlier run left unfinished, V(code) what O(code) says; nobody was asked then.
    - V(back) after a yes of the guard, V(denied) after a no, and V(nothing) where nothing runs the release.
  returned: success
  type: str
  sample: back
plan:
  description: What M(selfheal.delivery.rollback_plan) returns.
  returned: when nothing has to be settled first
  type: dict
confirmed:
  description: What the gates said, as M(selfheal.delivery.canary_bake) returns it. Empty when they were not asked.
  returned: when the guard was asked
  type: dict
allowed:
  description: Whether it may go back. This and all else is what M(selfheal.delivery.guard) returns.
  returned: when the guard was asked
  type: bool
  sample: true
msg:
  description: The guard's answer, or the plan where it was not asked, or what is wrong.
  returned: always
  type: str
  sample: "production/shop: rollback is allowed."
"""
