# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every task says that finds out all that an action depends on, and asks the guard whether it may be done."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  guard:
    description: The guard's policy, as O(selfheal.delivery.guard#module:guard) takes it.
    type: dict
    default: {}
  trigger:
    description: Why we look, as O(selfheal.delivery.guard#module:trigger) takes it. By default a person.
    type: raw
    default: {}
  reason:
    description: Why, in one sentence. A person has to give one; for another trigger it is its name.
    type: str
    default: ""
  confirm_window:
    description: How many seconds back a source that remembers is asked.
    type: float
    default: 120.0
  approved:
    description: The id of a recommendation that a person has approved, to act on it.
    type: str
    default: ""
  services:
    description: How many services there are.
    type: int
    default: 0
  alarming:
    description: How many services alarm at this moment, by a source that was asked.
    type: int
    default: 0
  lease_ttl:
    description: How many seconds the lease on the service outlives the last sign of this controller.
    type: float
    default: 60.0
attributes:
  idempotent:
    support: partial
    details:
      - Each answer of the guard is recorded, and a trigger is acted on once.
"""
