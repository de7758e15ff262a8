# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guard
short_description: Hold, resume, promote or abort a rollout that is under way
description:
  - Says a person's word on the one unfinished rollout of a service, from any terminal, pipeline or job template that
    reaches the same ledger.
  - The word is recorded in the ledger with who said it and why. A bake that runs obeys it at its next look; a rollout
    that nobody is at work on is taken up by the next run of C(selfheal.delivery.reconcile).
  - It is refused when the service has no unfinished rollout, and the refusal says what there is.
  - It runs once for a play, whatever hosts are in it. With C(run_once=true) every host gets the registered result.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
attributes:
  check_mode:
    support: full
    details:
      - Everything is checked, and nothing is recorded.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each time is recorded as an entry of its own. A rollout that hears the same word twice does what it does once.
options:
  service:
    description:
      - The service whose rollout is meant, as its ledger knows it.
    type: str
    required: true
  command:
    description:
      - V(hold) keeps the share of places that the rollout has reached, and judges on.
      - V(resume) lets a held rollout go on.
      - V(promote) goes on as if the gates had passed. It needs a O(reason).
      - V(abort) takes every changed place back.
    type: str
    required: true
    choices: [hold, resume, promote, abort]
  reason:
    description:
      - Why. It is kept in the ledger, so it must not contain a secret.
    type: str
    default: ""
  by:
    description:
      - Who says it. By default the user of the AWX job, else the operating system's user on the controller.
    type: str
seealso:
  - module: selfheal.delivery.ledger_info
"""

EXAMPLES = r"""
- name: Go back now
  selfheal.delivery.guard:
    service: shop
    command: abort
    reason: Support sees empty baskets, which no gate measures
  delegate_to: localhost

- name: Promote ahead of the verdict
  selfheal.delivery.guard:
    service: shop
    command: promote
    reason: INC-4711, the old release loses orders
    by: "{{ lookup('env', 'GITLAB_USER_LOGIN') }}"
    ledger:
      path: /var/lib/selfheal/ledger.sqlite
  delegate_to: localhost
"""

RETURN = r"""
said:
  description: The command as it was recorded.
  returned: success
  type: dict
  contains:
    seq:
      description: Its number, which rises with each command. V(0) in check mode.
      type: int
      sample: 3
    service:
      description: The service.
      type: str
      sample: shop
    rollout:
      description: The id of the rollout that it was said about.
      type: str
      sample: 5f2c81d09ab4
    command:
      description: The command.
      type: str
      sample: abort
    by:
      description: Who said it.
      type: str
      sample: ada
    reason:
      description: Why.
      type: str
      sample: Support sees empty baskets, which no gate measures
    at:
      description: When, in seconds since the epoch.
      type: float
      sample: 1795251593.85
    taken:
      description: When the bake saw it, in seconds since the epoch. Not yet, so V(null).
      type: float
      sample: null
holder:
  description: Who is at work on the service and will obey, or V(null) when nobody is.
  returned: success
  type: str
  sample: "ci-7:21337"
msg:
  description: The same in one line, or what went wrong.
  returned: always
  type: str
  sample: "shop: abort of rollout 5f2c81d09ab4 by ada; ci-7:21337 obeys it at its next look"
"""
