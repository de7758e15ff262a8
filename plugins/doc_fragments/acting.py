# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What everything that changes a place says of the lease, the ledger and the rollout, which are the controller's."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
notes:
  - The lease of O(rollout) is kept alive from the controller while this runs, and every change is written to the ledger
    first. Only the undo of an unfinished rollout goes on without the ledger; what it did is kept on the place.
options:
  service:
    description: The service that is changed, as the ledger knows it. Always needed.
    type: str
  lease:
    description:
      - The lease on the service, as M(selfheal.delivery.rollout) returned it, when this is part of O(rollout).
      - Without it the task takes the service's lease for itself, and is refused while a rollout is unfinished.
    type: dict
  lease_ttl:
    description: Seconds that the lease outlives the last sign of its holder.
    type: float
    default: 60.0
  rollout:
    description: The id of the rollout that this change belongs to, kept with the change. Needed with O(lease).
    type: str
  token:
    description:
      - The fencing token of O(lease), which the place keeps. A token lower than the highest one that was seen there is
        refused, and nothing changes. Never set it yourself.
    type: int
"""
