# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules for workloads of Kubernetes share, an Argo Rollout being one too."""

from __future__ import annotations


class ModuleDocFragment:
    # which workload
    DOCUMENTATION = r"""
options:
  namespace:
    description: The namespace that it is in.
    type: str
    required: true
  name:
    description: The name of the workload.
    type: str
    required: true
"""

    # which of Kubernetes' own
    KIND = r"""
options:
  kind:
    description: Its kind.
    type: str
    choices: [Deployment, StatefulSet, DaemonSet]
    default: Deployment
"""

    # how a new release looks
    POD_TEMPLATE = r"""
options:
  images:
    description:
      - Containers and their images in O(release). In an image C({release}) stands for the release's id.
      - Containers that only initialize can be named too. The others keep their images.
    type: dict
    default: {}
  record_template:
    description: Whether O(state=promoted) returns the pod template, which the ledger then keeps.
    type: bool
    default: true
"""

    # how it is changed, forth or back
    CHANGE = r"""
options:
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
    description: Seconds to wait. After them the task fails and says how far it came.
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
      - The pod template of the release O(to), to go back to it although its revision is pruned. The promotion returned
        it, and the ledger keeps it with the outcome of that task.
      - Not used while the revision is there.
    type: dict
"""
