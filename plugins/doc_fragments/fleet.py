# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What everything says that looks at all places of a service at once."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  service:
    description: The service as the ledger knows it, environment and name.
    type: str
    required: true
  group:
    description: The inventory group whose hosts are the places of the service.
    type: str
    required: true
"""

    # for what plans, once for a play, what is done to the places
    PLAN = r"""
options:
  forget:
    description: Places of the last rollout that are gone for good. Any other that is missing from the group is refused.
    type: list
    elements: str
    default: []
  states:
    description: What M(selfheal.delivery.release_info) returned, by place.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    details:
      - It only plans and never changes anything.
  idempotent:
    support: full
    details:
      - It only plans and never changes anything.
"""
