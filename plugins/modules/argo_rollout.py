#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a release to a Rollout of Argo Rollouts, take it back, or mark it known good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: argo_rollout
short_description: Bring a release to a Rollout of Argo Rollouts, take it back, or mark it known good
version_added: 1.1.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Brings a release to a C(Rollout) (C(argoproj.io/v1alpha1)) up to the share of the traffic that is asked for, by the
    steps that the C(Rollout) has, and waits for it by watch. A release is a C(ReplicaSet) that the C(Rollout) owns.
  - What is known of a release is kept on its C(ReplicaSet), in the annotation C(selfheal.delivery/release). It outlives
    the controller and goes when Argo prunes the C(ReplicaSet) by C(revisionHistoryLimit). The journal and the highest
    fencing token are annotations of the C(Rollout). Other annotations are kept.
  - Going back puts the pod template of the known good release into the C(Rollout). When that is its stable one, Argo
    returns to it at once, without steps, and its pods are not touched. The C(Rollout) is Healthy afterwards, where a
    mere abort leaves it Degraded. An older release is promoted in full, without steps, pauses and analysis.
  - Every change is one patch, which is refused when somebody changed the pod template, or deployed by this collection,
    since it was looked at. That is a conflict, and nothing is overwritten.
  - A run that was killed at any step is finished, or taken back, by running the module again.
  - A change that the controller of Argo Rollouts loses, as version 1.9 may when it writes a status at the same time, is
    shown to it again by setting and removing the label C(selfheal.delivery/nudge).
  - A C(Rollout) that another object owns, or that takes its pod template from one (C(workloadRef)), is refused with the
    name of that object. O(state=promoted_step) and the other commands work on the latter.
  - Needs the rights to get, list, watch and patch C(rollouts) and C(replicasets), to patch C(rollouts/status), and to
    list and watch C(pods). O(analysis=read) also needs to list C(analysisruns) and C(experiments).
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
  - selfheal.delivery.kubernetes
  - selfheal.delivery.acting
  - selfheal.delivery.wishes
  - selfheal.delivery.wishes.back
  - selfheal.delivery.workload
  - selfheal.delivery.workload.pod_template
  - selfheal.delivery.workload.change
attributes:
  action:
    support: full
  check_mode:
    support: full
    details:
      - The API server rehearses the change (C(dryRun)), so that what it would refuse is refused. Argo itself is not
        asked, and nothing is waited for.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - But for O(state=restarted) and O(state=promoted_step).
options:
  name:
    description: The name of the C(Rollout).
  state:
    description:
      - V(deployed) changes the pod template to O(release) by O(images) and O(patch), and waits until it pauses with
        O(share) of the traffic. With the strategy C(blueGreen) the preview is up then. A release that was aborted is
        retried.
      - V(known_good) goes back to O(to), or else to the stable release while another one is tried, or else to the
        newest known good release. A release that is bad is not gone back to. Nothing is done when a known good release
        is current that was not brought by O(rollout). A C(Rollout) that is paused is resumed for it.
      - V(promoted) promotes the current release, which must be O(release), in full, waits until it is Healthy, and
        marks it as known good. It is C(kubectl argo rollouts promote --full).
      - V(promoted_step) is C(kubectl argo rollouts promote), past the pause or the step that it is at.
      - V(aborted) is C(kubectl argo rollouts abort). The stable pods take over, the pod template stays, and so the
        C(Rollout) is Degraded until it is retried or gone back.
      - V(retried) is C(kubectl argo rollouts retry rollout).
      - V(paused) is C(kubectl argo rollouts pause), and V(resumed) undoes it. While it is paused, releases are refused.
      - V(restarted) is C(kubectl argo rollouts restart), which replaces all pods by new ones of the same release.
    type: str
    choices: [deployed, known_good, promoted, promoted_step, aborted, retried, paused, resumed, restarted]
    default: deployed
  patch:
    description:
      - What is laid over the pod template, which is C(spec.template) of the C(Rollout), with C(metadata) and C(spec).
      - A null removes a key. Containers, their environment and ports, volumes and mounts are merged by their names, an
        item with C($patch=delete) is removed, and any other list is replaced.
      - Without this and O(images), the pod template is the one that O(release) has already, else the one that runs.
    type: dict
    default: {}
  share:
    description:
      - The percentage of the traffic that O(state=deployed) gives to O(release), by the C(setWeight) steps of the
        strategy C(canary). It waits at the first pause without a duration that has at least so much. Pauses before that
        one are promoted, but for those with a duration, which are waited for.
      - When there is no such pause, nothing is changed, and the error lists those that there are.
      - V(100) promotes in full, without pauses and analysis, and waits until the C(Rollout) is Healthy.
      - Without it the first pause without a duration is waited at, or Healthy where there is none.
    type: float
  to_revision:
    description:
      - The number of the revision to go back to with O(state=known_good), as C(kubectl argo rollouts undo). It need not
        be known good. A number from before it was gone back to is understood, too.
    type: int
  to_previous:
    description:
      - Go back to what ran before with O(state=known_good), whether that is known good or not. After it was done,
        nothing is done.
    type: bool
    default: false
  change_cause:
    description: What the annotation C(kubernetes.io/change-cause) says of the change.
  analysis:
    description:
      - What to do with the results of Argo's own C(AnalysisRun) and C(Experiment) objects for O(release).
      - V(ignore) leaves them to Argo, which aborts the release when one fails.
      - With V(read) the task fails when one is Failed, Error or Inconclusive, and says which metric and why. It returns
        what they found as RV(analysis). One that still runs in the background does not fail it.
    type: str
    choices: [ignore, read]
    default: ignore
  wait:
    description:
      - Wait until it is done. Pods that cannot start fail the task at once, and so do C(Degraded),
        C(ProgressDeadlineExceeded) and C(InvalidSpec).
      - Without waiting it only waits for Argo to take the change up.
  keep:
    description: For the places that keep releases themselves. Argo keeps C(revisionHistoryLimit) C(ReplicaSet) objects.
seealso:
  - module: selfheal.delivery.kubernetes_rollout
  - module: selfheal.delivery.kubernetes_rollout_info
  - module: selfheal.delivery.rollout
"""

EXAMPLES = r"""
- name: Give version 2.0.1 a fifth of the traffic
  selfheal.delivery.argo_rollout:
    service: shop
    rollout: "{{ shop_rollout.rollout.id }}"
    lease: "{{ shop_rollout.lease }}"
    namespace: prod
    name: shop
    release: 2.0.1
    images:
      app: registry.example.com/shop:{release}
    share: 20

- name: It has proven itself
  selfheal.delivery.argo_rollout:
    service: shop
    rollout: "{{ shop_rollout.rollout.id }}"
    lease: "{{ shop_rollout.lease }}"
    namespace: prod
    name: shop
    release: 2.0.1
    state: promoted

- name: Go back to the last release known to be good
  selfheal.delivery.argo_rollout:
    service: shop
    rollout: "{{ shop_rollout.rollout.id }}"
    lease: "{{ shop_rollout.lease }}"
    namespace: prod
    name: shop
    state: known_good
    release: 2.0.1
    mark_bad: 5 % of requests failed

- name: Go back to revision 7, as kubectl argo rollouts undo
  selfheal.delivery.argo_rollout:
    service: shop
    namespace: prod
    name: shop
    state: known_good
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
    - The release of the pod template now, whatever its share. Also returned when the task fails after the change.
    - A C(ReplicaSet) that nobody called a release has its own name for an id.
  returned: always
  type: str
  sample: 2.0.1
stable:
  description: The release that Argo calls stable, which has the rest of the traffic.
  returned: always
  type: str
  sample: 1.0.0
share:
  description: The percentage of the traffic that RV(current) has, as the steps say.
  returned: always
  type: float
  sample: 20.0
phase:
  description: The phase of the C(Rollout), one of V(Healthy), V(Paused), V(Progressing), V(Degraded).
  returned: always
  type: str
  sample: Paused
message:
  description: What the C(Rollout) says of its phase.
  returned: always
  type: str
  sample: CanaryPauseStep
known_good:
  description: Where O(state=known_good) would go to now. Null when there is nothing to go back to.
  returned: always
  type: str
  sample: 1.0.0
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: [set the pod template of 2.0.1, marked shop-86b6f64556 as release 2.0.1]
analysis:
  description: What Argo's own analysis found. Empty without O(analysis=read).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the object.
      type: str
    kind:
      description: V(AnalysisRun) or V(Experiment).
      type: str
    phase:
      description: Its phase, such as V(Successful) or V(Failed).
      type: str
    message:
      description: Why it is in that phase.
      type: str
    metrics:
      description: For each metric its C(name), C(phase), C(message), and the last C(value) measured, as text.
      type: list
      elements: dict
  sample:
    - name: shop-86b6f64556-2-1
      kind: AnalysisRun
      phase: Successful
      message: ""
      metrics:
        - name: errors
          phase: Successful
          message: ""
          value: "0.001"
requests:
  description: How many requests were sent to the API server.
  returned: always
  type: int
  sample: 9
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

from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo.options import ARGUMENTS, change
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=REQUIRED_IF, supports_check_mode=True)
    run_change(module, lambda called: change(called.params, dry=called.check_mode))


if __name__ == "__main__":
    main()
