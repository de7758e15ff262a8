# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: canary_plan
short_description: Fix the steps of a rollout, or refuse what would break its promise
description:
  - Cuts the places of a service into steps, pins the release that each place would go back to, and returns both as the
    intent that M(selfheal.delivery.rollout) writes down.
  - Refuses what could leave places on a bad release. That is a play with C(serial), C(max_fail_percentage) or another
    strategy
    than C(linear), a C(--limit) or slice that hides places of the group, places that were lost before the rollout
    began, and
    a place without a known good release.
  - Places come from the inventory group and from the ledger, never from who happens to be in the play.
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
    description: The release that is to be rolled out.
    type: str
    required: true
  kind:
    description:
      - V(canary) plans how O(release) is brought to the places.
      - V(watch) changes nothing. It plans one step that watches the places on which O(release) already runs.
    type: str
    choices: [canary, watch]
    default: canary
  steps:
    description:
      - How many places have the release after each step, as numbers or shares such as V(25%). Shares round up, equal
        merge, and a last step short of all places is followed by one of all.
    type: list
    elements: raw
    default: ["100%"]
  traffic_steps:
    description:
      - The percentages of each place's traffic that the release walks through, where a place is a cluster and old and
        new can serve side by side, or of users, where it is a feature flag. Between places, O(steps) go on as ever.
      - V(auto) are the weights at which every place's Rollout pauses, and V([10, 50]) for a Deployment or a flag. An
        empty list gives each place the release whole.
    type: raw
    default: auto
  holdback:
    description: How many places stay on the old release until the last bake has passed, so that there is something to
      compare with.
    type: int
    default: 1
  first_release:
    description: There is no known good release yet. Everything gets the release at once, judged by limits alone.
    type: bool
    default: false
  policy:
    description: The policy of the service, one value of C(delivery_services).
    type: dict
    required: true
  retry_bad:
    description: Plan a release that was found bad before. Otherwise it is refused.
    type: bool
    default: false
  src:
    description: The content of the release. A feature flag has none, so that it is refused there.
    type: str
    default: ""
  resume:
    description: The interrupted rollout that goes on, as M(selfheal.delivery.rollout) returned it. It keeps its own
      steps.
    type: dict
    default: {}
seealso:
  - module: selfheal.delivery.canary_bake
  - module: selfheal.delivery.rollout
"""

EXAMPLES = r"""
- name: What would happen?
  selfheal.delivery.canary_plan:
    service: production/shop
    group: shop
    release: 2.0.1
    steps: [1, "25%", "100%"]
    policy: "{{ delivery_services.shop }}"
    states: "{{ dict(groups.shop | zip(groups.shop | map('extract', hostvars, 'shop_state'))) }}"
"""

RETURN = r"""
steps:
  description: The steps, each with the places that get the release, and who is canary and baseline while it bakes.
  returned: success
  type: list
  elements: dict
  sample: [{index: 1, of: 2, places: [web1], canary: [web1], baseline: [web2, web3, web4], shares: {}}]
holdback:
  description: The places that get the release after the last bake has passed.
  returned: success
  type: list
  elements: str
  sample: [web4]
before:
  description: The release that each place goes back to when the rollout is undone.
  returned: success
  type: dict
  sample: {web1: 1.0.0, web2: 1.0.0, web3: 1.0.0, web4: 1.0.0}
intent:
  description: All of it in the shape that the ledger keeps.
  returned: when there is something to do
  type: dict
  sample: {fleet: [web1, web2], before: {web1: 1.0.0, web2: 1.0.0}}
sizes:
  description: How many of the targets have the release in each step, as far as can be told before it.
  returned: success
  type: list
  elements: int
  sample: [1, 3]
later:
  description: Of the targets, those that nothing is measured of before the release is there.
  returned: where a place is a feature flag
  type: list
  elements: str
  sample: [search-flag/on]
share:
  description: The part of the requests that the release gets in the first step. Null where it is all of them.
  returned: where a place is a feature flag
  type: float
  sample: 0.05
targets:
  description: Where each place is measured, or each of its pods, or of the sides of a feature flag.
  returned: success
  type: list
  elements: dict
  sample: [{place: web1, urls: ["http://web1:8080/metrics"], instance: ""}]
msg:
  description: The plan in one line, or why it was refused.
  returned: always
  type: str
  sample: "steps 1/2: web1; 2/2: web2, web3; held back until the last bake passes: web4; the way back is 1.0.0"
"""
