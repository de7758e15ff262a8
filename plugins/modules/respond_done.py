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
  - An item that is never acknowledged is given out again after the source's C(slot_timeout).
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
seealso:
  - module: selfheal.delivery.respond_plan
"""

EXAMPLES = r"""
- name: Tell the event source that it may forget the event
  selfheal.delivery.respond_done:
    spool: /var/lib/selfheal/spool
    items: "{{ respond_plan.ack }}"
"""

RETURN = r"""
msg:
  description: How many items were acknowledged, or why they could not be.
  returned: always
  type: str
  sample: 1 acknowledged
"""
