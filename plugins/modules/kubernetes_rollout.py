#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a release to a Deployment, StatefulSet or DaemonSet, take it back, or mark it known good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_rollout
short_description: Bring a release to a Kubernetes workload, take it back, or mark it known good
version_added: 1.1.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Brings a release to a C(Deployment), C(StatefulSet) or C(DaemonSet) and waits until it is rolled out. A release is a
    revision of the workload, which is a C(ReplicaSet) or C(ControllerRevision) that the workload owns.
  - What is known of a release is kept on its revision, in the annotation C(selfheal.delivery/release). It outlives the
    controller and goes when Kubernetes prunes the revision by C(revisionHistoryLimit). The journal and the highest
    fencing token are annotations of the workload. Other annotations are kept.
  - Every change is one patch, which is refused when somebody changed the pod template, or deployed by this collection,
    since it was looked at. That is a conflict, which says who did what, and nothing is overwritten.
  - A run that was killed at any step is finished, or taken back, by running the module again.
  - A workload that another object owns, such as an operator's, is refused with the owner's name.
  - Promotion returns the whole pod template, and the ledger keeps it, since Kubernetes prunes revisions. Secrets that a
    template takes from elsewhere (C(valueFrom), volumes) are not part of it, literal ones are. Leave it out of the
    ledger by O(record_template=false).
  - Needs the rights to get, list, watch and patch the workload and its revisions, and to list and watch pods. For a
    C(StatefulSet) also to delete pods.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
  - selfheal.delivery.kubernetes
  - selfheal.delivery.acting
  - selfheal.delivery.wishes
  - selfheal.delivery.wishes.back
  - selfheal.delivery.workload
  - selfheal.delivery.workload.kind
  - selfheal.delivery.workload.pod_template
  - selfheal.delivery.workload.change
attributes:
  action:
    support: full
  check_mode:
    support: full
    details:
      - The API server rehearses the change (C(dryRun)), so that what it would refuse is refused. Nothing is waited for.
  diff_mode:
    support: full
    details:
      - The release, the images, and which keys of the pod template change, without their values.
  idempotent:
    support: full
    details:
      - But for O(state=restarted).
options:
  state:
    description:
      - V(deployed) changes the pod template to O(release) by O(images) and O(patch). Nothing is done when that is
        rolled out already. Without both, what runs is O(release) from now on.
      - V(known_good) goes back to O(to), or to the newest known good release that is neither current nor bad.
        Nothing is done when a known good release is current that was not brought by O(rollout).
      - V(promoted) marks the current release, which must be O(release) and rolled out, as known good.
      - V(paused) and V(resumed) hold the rollout of a C(Deployment) and let it go on. While it is paused, releases are
        refused.
      - V(restarted) replaces all pods by new ones of the same release. Each run does it again.
    type: str
    choices: [deployed, known_good, promoted, paused, resumed, restarted]
    default: deployed
  patch:
    description:
      - A strategic merge patch of the pod template, which is C(spec.template) of the workload, with C(metadata) and
        C(spec). The API server checks it strictly, so that a field it does not know is refused.
    type: dict
    default: {}
  strategy:
    description:
      - V(rolling) changes the workload itself.
      - V(canary) first runs O(release) in a C(Deployment) of its own beside it, named C(<name>-canary), as long as
        O(share) is below 100. The workload's own pods are not touched then. With O(share=100), or O(state=promoted),
        the workload is brought to the release and the canary goes. With O(state=known_good) the canary goes.
      - V(blue_green) runs O(release) whole in a second C(Deployment), named C(<name>-green), and then switches the
        C(Service) to it at once. With O(state=known_good) it is switched back at once. The old side is kept for
        O(keep_for). After that O(state=promoted), or else the next rollout, brings the workload itself to the release,
        switches back to it and removes the green side.
      - A rollout must go on with the strategy that it began with, since only so what stands beside is found again.
    type: str
    choices: [rolling, canary, blue_green]
    default: rolling
  share:
    description:
      - The percentage of requests that O(release) gets with O(strategy=canary) and O(state=deployed).
      - Without O(route) it is made by the number of pods behind the same C(Service), at most 50.
    type: float
    default: 100.0
  route:
    description: The route of the Gateway API that splits the requests exactly by weight, with O(strategy=canary).
    type: dict
    suboptions:
      name:
        description: Its name, in O(namespace).
        type: str
        required: true
      kind:
        description: Its kind.
        type: str
        choices: [GRPCRoute, HTTPRoute]
        default: HTTPRoute
      rule:
        description: The name or the index of the only rule to split. By default every one that leads to the workload.
        type: str
  keep_for:
    description:
      - With O(strategy=blue_green), for how many seconds from the switch on the old side is kept as it was, so that
        going back to it starts no pod.
    type: float
    default: 600.0
  switch:
    description:
      - With O(strategy=blue_green), the name of the only C(Service) to switch. By default it is every one that selects
        the workload's pods.
    type: str
  keep:
    description: For the places that keep releases themselves. Kubernetes keeps C(revisionHistoryLimit) revisions.
seealso:
  - module: selfheal.delivery.kubernetes_rollback
  - module: selfheal.delivery.kubernetes_rollout_info
  - module: selfheal.delivery.rollout
"""

EXAMPLES = r"""
- name: Run version 2.0.1, and wait until it runs everywhere
  selfheal.delivery.kubernetes_rollout:
    service: shop
    namespace: prod
    name: shop
    release: 2.0.1
    images:
      app: registry.example.com/shop:{release}
    timeout: 120

- name: It has proven itself
  selfheal.delivery.kubernetes_rollout:
    service: shop
    namespace: prod
    name: shop
    release: 2.0.1
    state: promoted

- name: More memory is a release too
  selfheal.delivery.kubernetes_rollout:
    service: shop
    namespace: prod
    name: shop
    release: 2.0.1-more-memory
    patch:
      spec:
        containers:
          - name: app
            resources:
              limits:
                memory: 512Mi

- name: New pods of the same release
  selfheal.delivery.kubernetes_rollout:
    service: shop
    namespace: prod
    name: shop
    state: restarted
"""

RETURN = r"""
release:
  description: The release that this was about.
  returned: always
  type: str
  sample: 2.0.1
before:
  description: What ran here before RV(current), where that is known.
  returned: always
  type: str
  sample: 1.0.0
current:
  description:
    - The release of the workload's pod template now. Also returned when the task fails after the change.
    - A revision that nobody called a release has its own name for an id.
  returned: always
  type: str
  sample: 2.0.1
known_good:
  description: Where a rollback would go to now. Null when there is nothing to go back to.
  returned: always
  type: str
  sample: 1.0.0
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: [switched to 2.0.1]
status:
  description: How far the rollout is, as C(kubectl rollout status) says it.
  returned: success
  type: str
  sample: deployment "shop" successfully rolled out
canary:
  description: The canary that stands beside the workload now, with the C(share) in percent that it was given last.
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
  description: The green side that stands beside the workload now, as RV(canary).
  returned: while there is one
  type: dict
live:
  description: The C(Deployment) that gets the requests.
  returned: O(strategy=blue_green)
  type: str
  sample: shop-green
requests:
  description: How many requests were sent to the API server.
  returned: success
  type: int
  sample: 12
took:
  description: Seconds that the change took.
  returned: always
  type: float
  sample: 1.42
template:
  description:
    - The pod template of the release, which can be given to go back to it. The ledger keeps it; read it there with the
      lookup P(selfheal.delivery.known_good#lookup).
  returned: O(state=promoted) and O(record_template=true), when the ledger could not take it
  type: dict
  sample:
    metadata:
      labels:
        app: shop
    spec:
      containers:
        - name: app
          image: registry.example.com/shop:2.0.1
images:
  description: For each container, its C(image) in the pod template and the C(ids) of the images that really run.
  returned: O(state=promoted)
  type: dict
  sample:
    app:
      image: registry.example.com/shop:2.0.1
      ids: ["registry.example.com/shop@sha256:3d9ec35c2ad420a6032f9259606c81aec00e47c8adfae2dbab9bed2ca53dc24f"]
revision:
  description: The number of the release's revision.
  returned: O(state=promoted)
  type: int
  sample: 7
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.options import ARGUMENTS, change
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=REQUIRED_IF, supports_check_mode=True)
    run_change(module, lambda called: change(called.params, dry=called.check_mode))


if __name__ == "__main__":
    main()
