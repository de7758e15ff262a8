# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: undo_place
short_description: Take one place back, as the rollout in hand says
description:
  - What role P(selfheal.delivery.undo#role) does on each place. It is M(selfheal.delivery.release) with
    C(state=known_good), and takes what to go back to, and the lease, out of O(held).
  - A place that is not in O(batch), or on which nothing ran before the rollout, is skipped.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
attributes:
  action:
    support: full
  check_mode:
    support: full
    details:
      - Nothing is copied, run or asked then.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  service:
    description: The service, as the ledger knows it.
    type: str
    required: true
  policy:
    description: The service's policy, as it stands in C(delivery_services), with its backend.
    type: dict
    required: true
  held:
    description: The rollout and its lease, as M(selfheal.delivery.rollout) or M(selfheal.delivery.guard) returned them.
    type: dict
    required: true
  batch:
    description: The places whose turn it is.
    type: list
    elements: str
    required: true
  mark_bad:
    description: Why the release that is left is marked as bad. It is not marked without it.
    type: str
    default: ""
  lease_ttl:
    description: Seconds that the lease outlives the last sign of its holder.
    type: float
    default: 60.0
seealso:
  - module: selfheal.delivery.release
  - module: selfheal.delivery.rollback_decide
"""

EXAMPLES = r"""
- name: Go back to the known good release
  selfheal.delivery.undo_place:
    service: production/shop
    policy: "{{ policy }}"
    held: "{{ rollback_asked }}"
    batch: "{{ rollback_asked.rollout.intent.batches[0] }}"
    mark_bad: alert ReleaseBurnsBudget
    ledger: "{{ delivery_ledger }}"
"""

RETURN = r"""
current:
  description: What the place runs now. This and all else is what M(selfheal.delivery.release) returns.
  returned: when it is this place's turn
  type: str
  sample: 1.0.0
msg:
  description: What is wrong, when the task fails.
  returned: failure
  type: str
  sample: "production/shop: the release 1.0.0 is not here any more."
"""
