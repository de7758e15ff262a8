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
  - selfheal.delivery.acting
  - selfheal.delivery.wishes.back
  - selfheal.delivery.workload
  - selfheal.delivery.workload.kind
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
    support: partial
    details:
      - But for O(to_revision), since a revision that is gone back to gets a new number.
options:
  release:
    description: The release that has to be left, even if it is known good.
    type: str
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
