# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Begin, take over, look up and close rollouts in the ledger
description:
  - A rollout is one release on its way through the places of a service. Its intent is written into the ledger before
    the
    first change, and authorises the way back.
  - The roles of this collection call it. Call it yourself only to put M(selfheal.delivery.release) into a play of
    your own.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - action_common_attributes
  - action_common_attributes.actiongroups
  - action_common_attributes.flow
  - selfheal.delivery.attributes.play
  - selfheal.delivery.ledger
attributes:
  action_group:
    membership: [selfheal.delivery.all]
  check_mode:
    support: full
    details:
      - Everything is checked, and nothing is recorded. A rollout that begins is handed on with the id C(check).
  idempotent:
    support: none
    details:
      - A service has one unfinished rollout at a time, so that beginning twice is refused.
options:
  state:
    description:
      - V(begun) takes the lease of O(service) and writes the O(intent). It is refused when somebody else has the
        lease, or
        when an earlier rollout is unfinished.
      - V(taken) takes an unfinished O(rollout) over from a controller that is gone, under a higher fencing token.
      - V(closed) records the O(outcome) and gives the lease back.
      - V(given_up) closes an unfinished rollback, or action of a playbook, as it is, when its controller is gone.
      - V(due) changes nothing. It tells what has to happen with unfinished rollouts.
    type: str
    required: true
    choices: [begun, taken, closed, given_up, due]
  service:
    description:
      - The service as the ledger knows it, environment and name. With O(state=due), empty means every service.
    type: str
    default: ""
  release:
    description: The release that is rolled out. Required for O(state=begun).
    type: str
    default: ""
  kind:
    description: Whether this rollout deploys the release itself, or watches what somebody else deployed.
    type: str
    choices: [canary, watch]
    default: canary
  intent:
    description: What M(selfheal.delivery.canary_plan) planned. Required for O(state=begun).
    type: dict
    default: {}
  guard:
    description:
      - The guard's policy, by which a rollout may begin. Used with O(state=begun). The options are those of
        O(selfheal.delivery.guard#module:guard).
    type: dict
    default: {}
  rollout:
    description: The id of the rollout. Required for O(state=taken), O(state=closed) and O(state=given_up).
    type: str
    default: ""
  why:
    description: Why nothing more is done for it. Required for O(state=given_up).
    type: str
  lease:
    description: The lease under which the rollout was begun or taken. Required for O(state=closed).
    type: dict
    default: {}
  lease_ttl:
    description: How many seconds the lease outlives the last sign of this controller.
    type: float
    default: 60.0
  outcome:
    description:
      - How the rollout ended.
      - V(undone) is recorded as C(unresolved) when O(facts) leave places that were changed and did not go back. Of a
        rollback it is recorded as V(done), when every place is where it was to go.
    type: str
    choices: [done, undone, held]
    default: done
  facts:
    description: What is recorded with the outcome.
    type: dict
    default: {}
  forget:
    description: Places that are gone for good, and do not have to be brought back.
    type: list
    elements: str
    default: []
  on_interrupt:
    description: What is due with a rollout whose controller is gone.
    type: str
    choices: [undo, continue]
    default: undo
seealso:
  - module: selfheal.delivery.canary_plan
  - module: selfheal.delivery.ledger_info
"""

EXAMPLES = r"""
- name: What was left behind by controllers that are gone?
  selfheal.delivery.rollout:
    state: due
  register: left

- name: Begin
  selfheal.delivery.rollout:
    state: begun
    service: production/shop
    release: 2.0.1
    intent: "{{ canary_plan.intent }}"
  register: begun

- name: Close
  selfheal.delivery.rollout:
    state: closed
    outcome: done
    rollout: "{{ begun.rollout.id }}"
    lease: "{{ begun.lease }}"
"""

RETURN = r"""
rollout:
  description: The rollout as the ledger has it.
  returned: for O(state=begun), O(state=taken) and O(state=closed)
  type: dict
  sample: {id: 5f2c81d09ab4, service: production/shop, release: 2.0.1, kind: canary, state: open, token: 7}
lease:
  description: The right to act on the service, to be handed to every task that does.
  returned: for O(state=begun) and O(state=taken)
  type: dict
  sample: {service: production/shop, holder: "ci@runner-3 pid 4711", token: 7, expires: 1795251653.8}
due:
  description: >-
    Unfinished rollouts, oldest first, each with C(action) (V(undo), V(continue), V(wait) or V(close)) and C(why).
    Without O(service), those whose services are in this inventory, with its C(delivery_environment), and a warning for
    others.
  returned: for O(state=due)
  type: list
  elements: dict
  sample: [{action: undo, why: its controller is gone, rollout: {id: 5f2c81d09ab4}}]
outcome:
  description: How it was recorded, V(done), V(undone), V(unresolved) or V(held).
  returned: for O(state=closed)
  type: str
  sample: undone
msg:
  description: The whole story in a few sentences, or what went wrong.
  returned: for O(state=closed), and on failure
  type: str
  sample: "production/shop: 2.0.1 passed its bake. It is known good on web1, web2."
"""
