# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: respond_plan
short_description: Find out what to do about an event, before anything is done
description:
  - The first task of C(playbooks/respond.yml), and its only one for an event about which nothing has to be done. It takes
    the event from the variable C(respond_event), without rendering it.
  - Refuses whatever Ansible would execute, and an event that is not as the event filter C(selfheal.delivery.alerts) makes
    it. Looks its service up in the inventory. Asks the server that C(delivery_alerts) names whether the alert really
    fires, when it began, and how many services alarm at this moment. Asks the guard whether it can already deny what
    would be done; that is recorded.
  - An alert that is over is recorded, so that the guard knows when it may act on it again. The alert that always fires is
    noted, as M(selfheal.delivery.heartbeat) does.
  - What comes out is free of templates, and its RV(hosts) are what the next play is about.
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
seealso:
  - module: selfheal.delivery.guard
  - module: selfheal.delivery.respond_done
"""

EXAMPLES = r"""
- name: Find out what to do about the event
  selfheal.delivery.respond_plan:
    ledger: "{{ delivery_ledger | default({}) }}"
  register: respond_plan
"""

RETURN = r"""
do:
  description:
    - What is next. V(rollback) and V(restart) are for the places of the service, V(tell) is to tell people, and after
      V(nothing) all is done.
  returned: success
  type: str
  sample: rollback
hosts:
  description: The hosts of the next play. None when nothing is left to do.
  returned: success
  type: list
  elements: str
  sample: [web1, web2]
msg:
  description: What was found, in one line.
  returned: always
  type: str
  sample: "demo/shop: alert ShopErrors: rollback next."
"""
