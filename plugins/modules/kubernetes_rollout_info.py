#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell which releases a Deployment, StatefulSet or DaemonSet has, and what is known of them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_rollout_info
short_description: Tell which releases a Kubernetes workload has, and what is known of them
version_added: 1.1.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads what M(selfheal.delivery.kubernetes_rollout) or M(selfheal.delivery.argo_rollout) keeps on a workload and its
    revisions, and says how far its rollout is.
  - Needs the rights to get and list the workload, its revisions and pods.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.info
  - selfheal.delivery.kubernetes
  - selfheal.delivery.workload
options:
  kind:
    description: Its kind. V(Rollout) is that of Argo Rollouts.
    type: str
    choices: [Deployment, StatefulSet, DaemonSet, Rollout]
    default: Deployment
seealso:
  - module: selfheal.delivery.kubernetes_rollout
  - module: selfheal.delivery.kubernetes_rollback
  - module: selfheal.delivery.argo_rollout
"""

EXAMPLES = r"""
- name: What runs, and where would we go back to?
  selfheal.delivery.kubernetes_rollout_info:
    namespace: prod
    name: shop
  register: shop

- name: Stop when there is no way back
  ansible.builtin.assert:
    that: shop.known_good is not none
"""

RETURN = r"""
current:
  description: The release of the workload's pod template. A revision that nobody called a release has its own name.
  returned: success
  type: str
  sample: 2.0.1
previous:
  description: What ran before it, where the journal knows it.
  returned: success
  type: str
  sample: 1.0.0
known_good:
  description: Where a rollback would go to now. Null when there is nothing to go back to.
  returned: success
  type: str
  sample: 1.0.0
releases:
  description: The releases that Kubernetes still has, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its id.
      type: str
    version:
      description: Its version as people say it.
      type: str
    deployed_at:
      description: When it was deployed here first, in seconds since the epoch.
      type: float
    by:
      description: Who did that.
      type: str
    digest:
      description: SHA-256 over its pod template. Empty for a revision that nobody called a release.
      type: str
    complete:
      description: Always true here.
      type: bool
    known_good:
      description: When it was promoted (C(at)), and by which rollout (C(rollout)). Null when it was not.
      type: dict
    bad:
      description: When it was found bad (C(at)), and why (C(reason)). Null when it was not.
      type: dict
    rollback:
      description: Whether it may be rolled back, V(allowed) or V(blocked).
      type: str
    revision:
      description: The number of its revision.
      type: int
    images:
      description: Containers and their images.
      type: dict
    created:
      description: When its revision was made, in seconds since the epoch.
      type: float
    change_cause:
      description: What C(kubectl rollout history) says of it.
      type: str
  sample:
    - id: 2.0.1
      version: 2.0.1
      deployed_at: 1795251733.12
      by: deploy
      digest: sha256:3d9ec35c2ad420a6032f9259606c81aec00e47c8adfae2dbab9bed2ca53dc24f
      complete: true
      known_good:
        at: 1795251933.5
        rollout: r-17
      bad: null
      rollback: allowed
      revision: 7
      images:
        app: registry.example.com/shop:2.0.1
      created: 1795251733.0
      change_cause: release 2.0.1, rollout r-17
journal:
  description: The last change of this workload. Null when there was none.
  returned: success
  type: dict
  contains:
    state:
      description: Its direction, V(deployed) or V(known_good).
      type: str
    before:
      description: What ran before it.
      type: str
    to:
      description: Where it went to.
      type: str
    phase:
      description: How far it came, one of V(restarting), V(failed), V(settled).
      type: str
    at:
      description: When it began, in seconds since the epoch.
      type: float
    rollout:
      description: The rollout that it belongs to.
      type: str
    token:
      description: The fencing token that it was done under.
      type: int
    problem:
      description: Why it failed.
      type: str
    settled:
      description: Whether it came to its end.
      type: bool
  sample:
    state: deployed
    before: 1.0.0
    to: 2.0.1
    phase: settled
    at: 1795251733.13
    rollout: r-17
    token: 42
    problem: ""
    settled: true
settled:
  description: Whether what runs is, healthily, what RV(current) says. False after a run that failed or was killed.
  returned: success
  type: bool
  sample: true
token:
  description: The highest fencing token seen here. Null when there was none.
  returned: success
  type: int
  sample: 42
status:
  description: How far the rollout is, as C(kubectl rollout status) says it.
  returned: success
  type: str
  sample: deployment "shop" successfully rolled out
paused:
  description: Whether the rollout is held.
  returned: success
  type: bool
  sample: false
pods:
  description:
    - The pods of the workload, and of its canary or its green side where there is one, without those that are
      terminating.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    uid:
      description: Its uid.
      type: str
    release:
      description: The release of the revision that it is of.
      type: str
    ready:
      description: Whether it is ready.
      type: bool
    restarts:
      description: How often its containers were restarted.
      type: int
    started_at:
      description: When the first of its containers started, in seconds since the epoch. Null when none runs.
      type: float
    phase:
      description: Its phase, such as V(Running).
      type: str
  sample:
    - name: shop-5c689d88bb-x2b9q
      uid: 0f8e8a36-7f0e-4f6c-9d1c-3a1e0c2b7a55
      release: 2.0.1
      ready: true
      restarts: 0
      started_at: 1795251735.0
      phase: Running
canary:
  description: The canary that stands beside the workload, with the C(share) in percent that it was given last.
  returned: while there is one
  type: dict
  sample:
    name: shop-canary
    release: 2.0.1
    rollout: r-17
    replicas: 1
    share: 10.0
    settled: true
green:
  description: The green side that stands beside the workload, as RV(canary).
  returned: while there is one
  type: dict
live:
  description: The C(Deployment) that gets the requests. When that is the green side, RV(current) is what that one runs.
  returned: while there is a green side
  type: str
  sample: shop-green
stable:
  description: The release that Argo Rollouts returns to when a canary is aborted.
  returned: O(kind=Rollout)
  type: str
  sample: 1.0.0
pauses:
  description: The percentages of the traffic at which the Rollout's steps wait for a person.
  returned: O(kind=Rollout)
  type: list
  elements: float
  sample: [20.0, 50.0]
share:
  description: The percentage of the traffic that RV(current) has.
  returned: O(kind=Rollout)
  type: float
  sample: 20.0
requests:
  description: How many requests were sent to the API server.
  returned: success
  type: int
  sample: 4
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.options import INFO_ARGUMENTS, look
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=INFO_ARGUMENTS, supports_check_mode=True)
    run(module, lambda called: look(called.params))


if __name__ == "__main__":
    main()
