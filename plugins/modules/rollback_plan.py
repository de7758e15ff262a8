# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback_plan
short_description: Pin what each place of a service goes back to, before anybody acts
description:
  - For each place that runs the accused release, pins the newest known good release that is neither current nor bad, by
    the place's own marks and by the ledger, and cuts the places into batches. What it returns is the intent that
    M(selfheal.delivery.guard) writes down with its yes.
  - Which release goes back to which comes from the places and the ledger alone, and never from a trigger.
  - Refuses a play with C(serial), C(max_fail_percentage) or another strategy than C(linear), and a C(--limit) or slice
    that hides places of the group. A place that cannot be reached stops nobody; it is tried with the others, and named.
  - A place that runs another release than the accused one is left alone.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - action_common_attributes
  - action_common_attributes.actiongroups
  - action_common_attributes.flow
  - selfheal.delivery.attributes.play
  - selfheal.delivery.fleet
  - selfheal.delivery.fleet.plan
  - selfheal.delivery.ledger
attributes:
  action_group:
    membership: [selfheal.delivery.all]
options:
  release:
    description:
      - The release that is to be left. By default what runs on every place or, where places differ, the one that passed
        its bake last.
    type: str
    default: ""
  why:
    description: Why it goes back, in one sentence. The release is marked bad with it.
    type: str
    required: true
  batches:
    description:
      - How many places have gone back after each batch, as numbers or shares such as V(50%), like the steps of a
        canary. By default all at once.
    type: list
    elements: raw
    default: ["100%"]
seealso:
  - module: selfheal.delivery.guard
  - module: selfheal.delivery.release
"""

EXAMPLES = r"""
- name: Where would it go back to?
  selfheal.delivery.rollback_plan:
    service: production/shop
    group: shop
    why: Support sees empty baskets
    batches: [1, "50%", "100%"]
    states: "{{ dict(groups.shop | zip(groups.shop | map('extract', hostvars, 'shop_state'))) }}"
"""

RETURN = r"""
release:
  description: The release that is left.
  returned: success
  type: str
  sample: 2.0.0
known_good:
  description: What most places go back to. Empty when no place has anything to go back to.
  returned: success
  type: str
  sample: 1.0.0
blocked:
  description: Why RV(release) must not be rolled back, by its own declaration, or nothing.
  returned: success
  type: str
  sample: ""
changed_at:
  description: When RV(release) was deployed last, in seconds since the epoch, where a place knows it.
  returned: success
  type: float
  sample: 1795251593.85
due:
  description: Whether a place runs RV(release) at all.
  returned: success
  type: bool
  sample: true
intent:
  description: All of it in the shape that the ledger keeps.
  returned: success
  type: dict
  sample: {fleet: [web1, web2], before: {web1: 1.0.0, web2: 1.0.0}, batches: [[web1, web2]], left: [], elsewhere: [],
    bad: 2.0.0, to: 1.0.0, why: Support sees empty baskets}
msg:
  description: The plan in one line, or why it was refused.
  returned: always
  type: str
  sample: 2.0.0 goes back to 1.0.0 on web1, web2
"""
