# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: respond_plan
short_description: Find out what to do about an event, before anything is done
description:
  - The first task of C(playbooks/respond.yml), and its only one for an event about which nothing has to be done. It
    takes the event from the variable C(respond_event), without rendering it.
  - Refuses whatever Ansible would execute, and an event that is not as the event filter C(selfheal.delivery.alerts)
    makes it. Looks its service up in the inventory. Asks the server that C(delivery_alerts) names whether the alert
    really fires, when it began, and how many services alarm at this moment. Asks the guard whether it can already deny
    what would be done; that is recorded.
  - An alert that is over is recorded, so that the guard knows when it may act on it again. The alert that always fires
    is noted, as M(selfheal.delivery.heartbeat) does.
  - What comes out is free of templates, and its RV(hosts) are what the next play is about.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - action_common_attributes
  - action_common_attributes.actiongroups
  - action_common_attributes.flow
  - selfheal.delivery.attributes.play
  - selfheal.delivery.attributes.asking
  - selfheal.delivery.ledger
attributes:
  action_group:
    membership: [selfheal.delivery.all]
  idempotent:
    support: partial
    details:
      - The same event is recorded once. What is asked about it may have changed since.
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
    - What is next. V(rollback), V(flag_off) and V(restart) are for the places of the service, V(tell) is to tell
      people, and after V(nothing) all is done.
  returned: success
  type: str
  sample: rollback
hosts:
  description: The hosts of the next play. None when nothing is left to do.
  returned: success
  type: list
  elements: str
  sample: [web1, web2]
wrong:
  description: Whether the event could not be taken, so that the play ends as failed once people were told.
  returned: success
  type: bool
  sample: false
service:
  description: The inventory group. Empty when no service was found.
  returned: success
  type: str
  sample: shop
identity:
  description: The service as the ledger knows it.
  returned: success
  type: str
  sample: demo/shop
trigger:
  description: Why we look, as O(selfheal.delivery.guard#module:trigger) takes it.
  returned: success
  type: dict
  sample: {kind: alert, name: ShopErrors, id: ad4d4b6640bbfefe-1795289563, at: 1795289563.303, active: true,
    evidence: {}}
answer:
  description: What the alert's own source said. C(firing) is V(null) when it did not answer.
  returned: success
  type: dict
  sample: {asked: true, firing: true, said: alertmanager says that ShopErrors fires, since: 1795289563.303,
    incident: ad4d4b6640bbfefe-1795289563, alarming: 1, names: [ShopErrors]}
alarming:
  description: How many services alarm now, by the alerts' own source, or by the event source if that knows of more.
  returned: success
  type: int
  sample: 1
after:
  description:
    - The action on a feature flag that did not help, and that nobody followed because its controller was gone. What is
      next is the next way back after it. Empty otherwise.
  returned: success
  type: str
  sample: ""
decision:
  description: The guard's denial, as RV(selfheal.delivery.guard#module:decision); empty when it may go on.
  returned: success
  type: dict
  sample: {}
again:
  description:
    - Whether asking again later may give another answer, since the guard denied it for a reason that passes, or since
      nothing could be decided.
  returned: success
  type: bool
  sample: false
tell:
  description: What people are told, as the options of M(selfheal.delivery.notify); empty when nobody is.
  returned: success
  type: dict
  sample: {}
spool:
  description: The spool of the event source, where there is one.
  returned: success
  type: str
  sample: /var/lib/selfheal/spool
ack:
  description: What is to be acknowledged there.
  returned: success
  type: list
  elements: str
  sample: [9d1a9b5c-2f0e-5f5b-8c7d-0a1b2c3d4e5f]
msg:
  description: What was found, in one line.
  returned: always
  type: str
  sample: "demo/shop: alert ShopErrors: rollback next."
"""
