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
  - The lease of O(rollout) is kept alive from the controller while this runs, and every change is written to the ledger
    first. Only the undo of an unfinished rollout goes on without the ledger; it is kept in the journal.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
  - selfheal.delivery.kubernetes
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
  namespace:
    description: The namespace that it is in.
    type: str
    required: true
  name:
    description: The name of the workload.
    type: str
    required: true
  kind:
    description: Its kind.
    type: str
    choices: [Deployment, StatefulSet, DaemonSet]
    default: Deployment
  release:
    description:
      - The id of the release, one version of what is deployed. 1 to 128 letters, digits and C(. _ + ~ -), with a letter
        or a digit first.
      - Required for O(state=deployed) and O(state=promoted).
      - With O(state=known_good), the release that has to be left, even if it is known good.
    type: str
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
  images:
    description:
      - Containers and their images in O(release). In an image C({release}) stands for the release's id.
      - Containers that only initialize can be named too. The others keep their images.
    type: dict
    default: {}
  patch:
    description:
      - A strategic merge patch of the pod template, which is C(spec.template) of the workload, with C(metadata) and
        C(spec). The API server checks it strictly, so that a field it does not know is refused.
    type: dict
    default: {}
  change_cause:
    description:
      - What C(kubectl rollout history) says of the change, by the annotation C(kubernetes.io/change-cause).
      - Defaults to the release and the rollout, and when going back to what the revision had.
    type: str
  wait:
    description:
      - Wait until it is rolled out, which means that the controller has seen the change, all pods are of the release
        and available, and no other pods are left. The pods of a C(StatefulSet) below its C(partition) are left alone,
        and with C(OnDelete) nothing replaces pods.
      - Pods that cannot start fail the task at once. These are images that cannot be pulled, configuration that is not
        there, and containers that crashed twice or more. So do C(ProgressDeadlineExceeded) and a quota.
      - Without waiting a failed rollout is not seen, only that the controller has taken the change up.
    type: bool
    default: true
  timeout:
    description: Seconds to wait. After them the task fails and says what is missing.
    type: float
    default: 300.0
  on_digest_change:
    description:
      - What a rollback does about tags, which may hold other content than at the promotion. The digests that ran are
        recorded on the revision when it is promoted.
      - V(warn) waits, compares, and warns with container, tag, and both digests. It needs O(wait=true).
      - V(refuse) never runs other content. Images by tag are replaced by the digests that were recorded, in a revision
        of their own. Where not exactly one digest was recorded, nothing is changed and the task fails.
    type: str
    choices: [warn, refuse]
    default: warn
  on_gitops:
    description:
      - What to do when a GitOps controller (Argo CD, Flux, Rancher Fleet) keeps the workload as it is in Git, by its
        labels, annotations or field managers. It would undo the change.
    type: str
    choices: [warn, refuse]
    default: warn
  template:
    description:
      - The pod template of the release O(to), to go back to it although Kubernetes has pruned its revision. The
        promotion returned it, and the ledger keeps it with the outcome of that task.
      - Not used while the revision is there.
    type: dict
  record_template:
    description: Whether O(state=promoted) returns the pod template, which the ledger then keeps.
    type: bool
    default: true
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
  version:
    description: The version as people say it. Defaults to O(release).
    type: str
  by:
    description: Who deploys. Defaults to the user that the module runs as.
    type: str
  rollback:
    description:
      - Whether O(release) may be rolled back, stored with it. A V(blocked) release, such as one with a migration that
        cannot be undone, is only left by the O(undo) of the rollout that brought it.
      - Defaults to what is stored, and to V(allowed) for a new release.
    type: str
    choices: [allowed, blocked]
  to:
    description:
      - The release to go back to with O(state=known_good). It must be known good here and not bad; with O(undo=true) it
        is enough that it is here.
      - Without O(rollout) and O(release) it is a person's wish, and a known good current release is left for it too.
    type: str
  mark_bad:
    description: Marks the release that O(state=known_good) leaves as bad, with this reason. It is not gone back to.
    type: str
  undo:
    description:
      - This is the undo of O(rollout), which did not finish. Only a release that this rollout brought here, or the
        one that O(release) names, is left.
    type: bool
    default: false
  keep:
    description: For the places that keep releases themselves. Kubernetes keeps C(revisionHistoryLimit) revisions.
    type: int
    default: 5
  rollout:
    description:
      - The id of the rollout that this change belongs to. Kept in the journal on the workload. Needed with O(lease).
    type: str
  before:
    description: What ran here before the rollout, by its intent. Kept in the journal.
    type: str
  token:
    description:
      - The fencing token of O(lease), which is kept on the workload. A token lower than the highest one that was seen
        there is refused, and nothing changes. Never set it yourself.
    type: int
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
  description: The pod template of the release, which can be given to go back to it.
  returned: O(state=promoted) and O(record_template=true)
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
