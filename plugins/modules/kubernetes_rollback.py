#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take a Deployment, StatefulSet or DaemonSet back to its last known good release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_rollback
short_description: Take a Kubernetes workload back to its last known good release
version_added: 1.1.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Takes a C(Deployment), C(StatefulSet) or C(DaemonSet) back to the newest release that was promoted here and not
    found bad, over as many bad ones as there are since. Run again, it changes nothing.
  - Another revision, or the one before, is only gone to when O(to), O(to_revision) or O(to_previous) asks for it.
  - The revisions are those that the workload owns, whatever labels others carry. Annotations of others are kept.
  - The pod template is replaced by one patch, which is refused when somebody deployed since it was looked at. That is a
    conflict, which says who did what, and nothing is overwritten.
  - Removes the pods of a C(StatefulSet) that the left release has not made ready, since its controller would wait for
    them for ever.
  - The same as M(selfheal.delivery.kubernetes_rollout) with C(state=known_good), and with more ways to say where to.
  - A canary or a green side that M(selfheal.delivery.kubernetes_rollout) has put beside a C(Deployment) goes too, after
    requests are sent to the workload's own pods again.
  - Needs at most five requests when nothing is beside and nothing is waited for.
  - Needs the rights to get, list, watch and patch the workload and its revisions, and to list and watch pods. For a
    C(StatefulSet) also to delete pods.
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
    support: partial
    details:
      - But for O(to_revision), since a revision that is gone back to gets a new number.
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
    description: The release that has to be left, even if it is known good.
    type: str
  to:
    description:
      - The release to go back to. It must be known good here and not bad; with O(undo=true) it
        is enough that it is here.
      - Without O(rollout) and O(release) it is a person's wish, and a known good current release is left for it too.
    type: str
  mark_bad:
    description: Marks the release that this module leaves as bad, with this reason. It is not gone back to.
    type: str
  undo:
    description:
      - This is the undo of O(rollout), which did not finish. Only a release that this rollout brought here, or the
        one that O(release) names, is left.
    type: bool
    default: false
  to_revision:
    description:
      - The number of the revision to go back to, as C(kubectl rollout history) tells it, known good or not. One that
        does not exist, or is the current one, is an error.
    type: int
  to_previous:
    description:
      - Go back to what ran before the current release, known good or not. When the last change already went back,
        nothing is done.
    type: bool
    default: false
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
  rollout:
    description:
      - The id of the rollout that this change belongs to. Kept in the journal on the workload. Needed with O(lease).
    type: str
  token:
    description:
      - The fencing token of O(lease), which is kept on the workload. A token lower than the highest one that was seen
        there is refused, and nothing changes. Never set it yourself.
    type: int
seealso:
  - module: selfheal.delivery.kubernetes_rollout
  - module: selfheal.delivery.kubernetes_rollout_info
"""

EXAMPLES = r"""
- name: Go back to the last release known to be good
  selfheal.delivery.kubernetes_rollback:
    service: shop
    namespace: prod
    name: shop
    mark_bad: 5 % of requests failed

- name: Go back to a release of which Kubernetes has pruned the revision
  selfheal.delivery.kubernetes_rollback:
    service: shop
    namespace: prod
    name: shop
    to: 1.4.2
    template: "{{ shop_promoted.template }}"

- name: Go back to a revision by its number
  selfheal.delivery.kubernetes_rollback:
    service: shop
    namespace: prod
    name: shop
    kind: StatefulSet
    to_revision: 7
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
  sample: [marked 2.0.1 as bad, switched to 1.0.0]
status:
  description: How far the rollout is, as C(kubectl rollout status) says it.
  returned: success
  type: str
  sample: deployment "shop" successfully rolled out
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
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.options import (
    ROLLBACK_ARGUMENTS,
    ROLLBACK_EXCLUSIVE,
    ROLLBACK_REQUIRED_IF,
    roll_back,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change


def main() -> NoReturn:
    module = AnsibleModule(
        argument_spec=ROLLBACK_ARGUMENTS,
        mutually_exclusive=ROLLBACK_EXCLUSIVE,
        required_if=ROLLBACK_REQUIRED_IF,
        supports_check_mode=True,
    )
    run_change(module, lambda called: roll_back(called.params, dry=called.check_mode))


if __name__ == "__main__":
    main()
