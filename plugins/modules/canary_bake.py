# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: canary_bake
short_description: Watch a release by its gates until they decide
description:
  - Looks at the metrics of all places every few seconds, judges the new release against the old one that runs beside
    it,
    and returns as soon as the gates have decided.
  - Prints one line of progress for each look on standard error, live on a terminal and in a pipe, so that the output of
    the C(json) callback stays valid.
  - A verdict is data. The task fails only on options that are wrong, because a failing C(run_once) task would send only
    the first host into C(rescue).
  - The state is written to the ledger before each look, which also renews the lease. A bake whose lease is lost, or
    whose
    ansible-playbook is gone, stops at its next look and changes nothing more.
  - Runs on the controller. When the task is delegated to a host that is not local, that host takes the measurements.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - action_common_attributes
  - action_common_attributes.actiongroups
  - action_common_attributes.flow
  - selfheal.delivery.attributes.play
  - selfheal.delivery.fleet
  - selfheal.delivery.ledger
attributes:
  action_group:
    membership: [selfheal.delivery.all]
  bypass_host_loop:
    support: none
  check_mode:
    support: full
    details:
      - Tells what would be watched, and looks at nothing.
  idempotent:
    support: N/A
    details:
      - It watches and never changes anything.
options:
  release:
    description: The release that is watched.
    type: str
    required: true
  phase:
    description:
      - V(bake) watches O(step) until it is decided.
      - V(look) takes a single look at a held rollout.
      - V(verify) watches the places that went back, until it is known whether their gates are good again.
      - V(confirm) asks whether the service is bad now, on all its places, before somebody acts on what a trigger says.
        A source that remembers is asked about O(confirm_window) and answers at once; another, or a gate host, takes
        looks, for C(verify_for) at most.
    type: str
    choices: [bake, look, verify, confirm]
    default: bake
  step:
    description: The step, as M(selfheal.delivery.canary_plan) returned it. Required for O(phase=bake).
    type: dict
    default: {}
  results:
    description:
      - What the way back gave, by place, for O(phase=verify). Places that were changed are watched. Without any there
        is
        nothing to verify.
    type: dict
    default: {}
  confirm_window:
    description:
      - How many seconds back a source is asked for O(phase=confirm). Of these, the newest that can tell decide.
    type: float
    default: 120.0
  policy:
    description: The policy of the service, one value of C(delivery_services).
    type: dict
    required: true
  guard:
    description:
      - The guard's policy. It is asked before a rollout whose gates passed goes on. Denied, the rollout is held.
      - The options are those of O(selfheal.delivery.guard#module:guard).
    type: dict
    default: {}
  rollout:
    description: The id of the rollout. Required but for O(phase=confirm).
    type: str
  lease:
    description: The lease under which the rollout was begun or taken. Required but for O(phase=confirm).
    type: dict
  lease_ttl:
    description: How many seconds the lease outlives the last look.
    type: float
    default: 60.0
seealso:
  - module: selfheal.delivery.canary_plan
  - module: selfheal.delivery.metric_gate
"""

EXAMPLES = r"""
- name: Bake
  selfheal.delivery.canary_bake:
    service: production/shop
    group: shop
    release: 2.0.1
    step: "{{ canary_plan.steps[0] }}"
    policy: "{{ delivery_services.shop }}"
    rollout: "{{ begun.rollout.id }}"
    lease: "{{ begun.lease }}"
  run_once: true
  register: canary_bake

- name: Stop every place when the release is not good
  ansible.builtin.assert:
    that: canary_bake is selfheal.delivery.passing
"""

RETURN = r"""
verdict:
  description: What the gates said, V(pass), V(fail) or V(inconclusive). For O(phase=verify) V(recovered),
    V(not_recovered) or
    V(unverified).
  returned: success
  type: str
  sample: fail
confirmed:
  description: Whether the service is bad. V(null) where nobody can tell, such as with a source that is down.
  returned: for O(phase=confirm)
  type: bool
  sample: true
level:
  description: The worst of what was measured, as a multiple of its limit.
  returned: for O(phase=confirm)
  type: float
  sample: 9.7
next:
  description: What the caller does next, V(promote), V(undo), V(hold), or V(stop) where somebody else has taken over.
  returned: for O(phase=bake) and O(phase=look)
  type: str
  sample: undo
reason:
  description: Why, in one word.
  returned: success
  type: str
  sample: baseline
gate:
  description: The gate that decided.
  returned: for O(phase=bake) and O(phase=look)
  type: str
  sample: errors
gates:
  description: The verdict of every gate with its figures and its evidence.
  returned: success
  type: list
  elements: dict
  sample: [{gate: errors, verdict: fail, value: 0.051, baseline: 0.005, limit: 0.02, samples: {canary: 301, bad: 14}}]
elapsed:
  description: Seconds that this step was watched.
  returned: success
  type: float
  sample: 12.2
took:
  description: Seconds since the first look of the rollout, over all its steps.
  returned: for O(phase=bake) and O(phase=look)
  type: float
  sample: 44.1
note:
  description: What a rollout without a baseline is judged by.
  returned: for O(phase=bake) and O(phase=look)
  type: str
  sample: ""
hold_until:
  description: When a held rollout is undone, in seconds since the epoch.
  returned: when the rollout is held
  type: float
  sample: 1795255253.8
msg:
  description: The outcome in one line, or what went wrong.
  returned: always
  type: str
  sample: "errors failed: baseline"
"""
