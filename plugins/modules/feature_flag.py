#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn a feature flag off or on, and see that clients are served that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: feature_flag
short_description: Turn a feature flag off or on, and see that clients are served that
version_added: 1.1.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Turns a flag at its provider, then reads back what a client is served until it is O(serve), or O(deadline) has
    passed. A call that succeeds while clients are still served something else is a failure.
  - Off is not false. A flag that is switched off may serve the default that stands in the service's code, which nobody
    but the service knows. So O(serve) names the value that clients shall be served.
  - A flag that is as wished already is verified all the same.
  - A change that waits for an approval, or for its schedule, fails with RV(status=pending).
  - A flag, an environment or a project that is not there fails the task. It is never taken for one that is off.
  - Needs no redeploy, and is the fastest way back. Without O(lease), it is written to the ledger with the service's own
    lease; how it went is, too.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
  - selfheal.delivery.flags
attributes:
  action:
    support: full
  check_mode:
    support: full
    details:
      - Asks the provider, and what clients are served now, which RV(status) then is about. Sets nothing.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  service:
    description: The service that the flag belongs to, as the ledger knows it. Always needed.
    type: str
  state:
    description:
      - V(off) has everyone served O(serve).
      - V(on) has those served it whom the flag's own rules let, or O(percentage) of all.
      - YAML reads an unquoted C(off) as false, which is understood.
    type: str
    required: true
    choices: ["on", "off"]
  percentage:
    description:
      - How many of 100 clients are served it, with O(state=on), where the provider has that.
      - It is verified by the rules that clients read, since one evaluation cannot show it.
    type: float
  variation:
    description: Which of the flag's variations is served, where the provider has them. With O(state=on) say O(serve).
    type: str
    default: ""
  serve:
    description:
      - The value that clients have to be served. By default false for O(state=off) and true for O(state=on).
      - It has to be of the same kind. V("false") is a text, V(0) a number, and neither is false.
    type: raw
  verify:
    description:
      - V(evaluated) reads back what clients are served.
      - V(no) asks nobody. The task then ends with RV(status=unverified) and a warning, and does not fail.
    type: str
    choices: [evaluated, "no"]
    default: evaluated
  reason:
    description: Why, for the ledger, and for the provider's own audit log where it takes one.
    type: str
    default: ""
  lease:
    description:
      - The lease on the service, as M(selfheal.delivery.rollout) or M(selfheal.delivery.guard) returned it, when this
        is part of O(rollout).
      - Without it the task takes the service's lease for itself, and is refused while a rollout is unfinished.
    type: dict
  lease_ttl:
    description: Seconds that the lease outlives the last sign of its holder.
    type: float
    default: 60.0
  rollout:
    description: The id of the rollout, or of the guard's decision, that this belongs to. Needed with O(lease).
    type: str
seealso:
  - module: selfheal.delivery.feature_flag_info
  - plugin: selfheal.delivery.feature_flag
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Turn a flag off, and see that clients get false
  selfheal.delivery.feature_flag:
    service: production/shop
    flag: new-search
    state: "off"
    project: default
    environment: production
    reason: the search answers too slowly
    deadline: 10
    provider:
      type: unleash
      url: https://unleash.example.org
      token_file: /run/secrets/unleash
      client_token_file: /run/secrets/unleash-client

- name: Serve the old checkout again, by a flag with several values
  selfheal.delivery.feature_flag:
    service: production/shop
    flag: checkout
    state: "off"
    serve: classic
    provider:
      type: flagd
      kind: FeatureFlag
      namespace: shop
      name: flags

- name: Turn a home-made flag on for a fifth of the users
  selfheal.delivery.feature_flag:
    service: production/shop
    flag: new-search
    state: "on"
    percentage: 20
    provider:
      type: json
      path: /etc/shop/flags.json
"""

RETURN = r"""
msg:
  description: How it ended, in one or two sentences.
  returned: always
  type: str
  sample: "flag 'new-search' of default/production is off: clients are served false 0.98 s after the call (client API)."
status:
  description:
    - V(effective), when clients are served what was wished.
    - V(pending), when the change waits for an approval or a schedule. The task fails.
    - V(not_effective), when clients were still served something else at the O(deadline). The task fails.
    - V(unverified), when nobody could tell what clients are served, the change could not be made, or with
      O(verify=no). The task fails, but for the last.
  returned: unless options are wrong
  type: str
  sample: effective
call_took:
  description: Seconds that the provider took to tell the flag's state and to change it.
  returned: unless options are wrong
  type: float
  sample: 0.041
effective_after:
  description: Seconds from the end of these calls until a client was seen to be served it. Null when that was not seen.
  returned: unless options are wrong
  type: float
  sample: 0.98
before:
  description:
    - What the provider's management said before. C(on), C(percentage), which is null where that depends on more than
      one number, C(variation), what is C(pending), the C(revision), and a C(note). Empty when it is not known.
  returned: unless options are wrong
  type: dict
  sample: {"on": true, "percentage": 100.0, "variation": "", "pending": "", "revision": "7", "note": ""}
after:
  description: What it said afterwards, or would say, in check mode.
  returned: unless options are wrong
  type: dict
  sample: {"on": false, "percentage": 100.0, "variation": "", "pending": "", "revision": "8", "note": ""}
served:
  description:
    - What clients were served last. C(known) says whether that could be found out, C(why) why not, C(by) how. Then
      there are the C(value), and the C(percentage) of clients that get the on side, where it is known.
  returned: unless options are wrong
  type: dict
  sample: {"known": true, "value": false, "percentage": null, "why": "", "by": "client API"}
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import change
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.options import ARGUMENTS


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    run_change(module, lambda called: change(called.params, dry=called.check_mode))


if __name__ == "__main__":
    main()
