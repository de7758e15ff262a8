# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: respond_done
short_description: Tell the event source that an event was looked at
description:
  - Leaves an empty file for each item in the folder C(done) of the spool of the event source
    C(selfheal.delivery.alertmanager), which then forgets the item and gives its slot to the next one.
  - An item about which another answer may be given later, since it was denied for a reason that passes, or since
    nothing was decided, gets a file with C(.again) after its name. The source then gives the item out once more when
    its alert is repeated.
  - An item that is never acknowledged keeps its slot until the source's C(slot_timeout) is over.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - action_common_attributes
  - action_common_attributes.actiongroups
  - action_common_attributes.flow
  - selfheal.delivery.attributes.play
attributes:
  action_group:
    membership: [selfheal.delivery.all]
  check_mode:
    support: full
    details:
      - Nothing is acknowledged.
  idempotent:
    support: partial
    details:
      - What was acknowledged before stays so, but is reported as changed.
options:
  spool:
    description: The folder of the spool, as the event source has it in its option C(spool).
    type: path
    required: true
  items:
    description: The items, as RV(selfheal.delivery.respond_plan#module:ack) names them. What is no UUID is passed over.
    type: list
    elements: str
    required: true
  decision:
    description:
      - What the guard decided, as RV(selfheal.delivery.guard#module:decision). A denial that ends by itself, or for one
        of V(in_progress), V(paused), V(frozen), V(cooldown), V(rate_limited), V(not_held), V(alerts_silent),
        V(clock_jumped) and V(store_unavailable), is one to ask about again.
    type: dict
    default: {}
  unknown:
    description: Whether nobody could say if it is bad, so that V(not_confirmed) may be another answer later.
    type: bool
    default: false
  again:
    description: Whether to ask again whatever was decided, for example since nothing was.
    type: bool
    default: false
seealso:
  - module: selfheal.delivery.respond_plan
"""

EXAMPLES = r"""
- name: Tell the event source that it may forget the event
  selfheal.delivery.respond_done:
    spool: /var/lib/selfheal/spool
    items: "{{ respond_plan.ack }}"
    again: "{{ respond_plan.again }}"
"""

RETURN = r"""
again:
  description: Whether the items are to be asked about again.
  returned: success
  type: bool
  sample: false
msg:
  description: How many items were acknowledged, or why they could not be.
  returned: always
  type: str
  sample: 1 acknowledged
"""
