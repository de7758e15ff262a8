#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploy a release with Helm, take it back to the last known good one, or mark it known good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_release
short_description: Deploy a release with Helm, take it back, or mark it known good
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Deploys a chart and its values as a release with an id, remembers in the cluster when it has proven itself, and goes
    back to the newest release known to be good, over as many others as lie between. C(helm rollback) alone goes one
    revision back.
  - What is known of a release is kept as labels on Helm's own storage objects, so it survives the controller.
  - Goes back by C(helm rollback), and waits until everything is ready. When asked again it does nothing.
  - Revisions that somebody else deployed are called C(revision-<number>). They are not overwritten when O(release) or
    O(rollout) says what has to be left.
  - An operation that a killed C(helm) left unfinished is mended. One that may be alive is left alone.
  - Helm has no lock against another C(helm) in the same instant. The history is looked at right before and right after,
    and a revision that slipped in is an error that names it.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
  - selfheal.delivery.kubernetes
  - selfheal.delivery.acting
  - selfheal.delivery.wishes
  - selfheal.delivery.wishes.back
attributes:
  action:
    support: full
  check_mode:
    support: full
    details:
      - Helm renders the chart against the cluster then, without installing it.
  diff_mode:
    support: full
    details:
      - Tells releases, revisions and charts, never a value.
  idempotent:
    support: full
requirements:
  - helm 3.13 or newer, of major version 3, where the task runs
options:
  name:
    description: The name of the Helm release.
    type: str
    required: true
  namespace:
    description: The namespace of the Helm release. It has to be there.
    type: str
    required: true
  release:
    description:
      - The id of the release, one version of what is deployed. Letters, digits and C(. _ + ~ -), with a letter or a
        digit first. At most 63 characters, of which each C(_), C(+) and C(~) counts as three.
      - Required for O(state=deployed) and O(state=promoted).
      - With O(state=known_good), the release that has to be left, even if it is known good.
  state:
    description:
      - V(deployed) installs or upgrades to O(chart) with O(values). Nothing is done when O(release) runs already. The
        same id with another chart or other values is refused, unless it was never rolled out whole. When it does not
        become ready the task fails, and O(release) stays current, unsettled.
      - V(known_good) goes back to O(to), or to the newest known good release that is neither current nor bad.
        Nothing is done when a known good release is current that was not brought by O(rollout), and when what somebody
        deployed has the very objects of the release to go back to.
      - V(promoted) marks the current release, which must be O(release), as known good.
    type: str
    choices: [deployed, known_good, promoted]
    default: deployed
  chart:
    description:
      - The chart, a folder or an archive where the task runs, C(repository/chart), or a URL such as C(oci://).
      - Required for O(state=deployed).
    type: str
  chart_version:
    description: The version of the chart. Without it a chart from a repository is the newest one.
    type: str
  values:
    description:
      - The values of the chart, as a mapping or as JSON.
      - They are given to helm without touching the disk, and are in no result, message or log.
    type: json
  values_files:
    description: Files of values where the task runs; later ones win, and O(values) wins over all.
    type: list
    elements: path
    default: []
  reuse_values:
    description: Begin with the values that run now, instead of those of the chart.
    type: bool
    default: false
  wait:
    description: Wait until what was deployed is ready, by Helm's rules. Without it, nobody has seen whether it is.
    type: bool
    default: true
  timeout:
    description: Seconds after which what is not ready has failed.
    type: float
    default: 300.0
  pending_timeout:
    description:
      - Seconds after which a C(pending) Helm operation is taken for killed. What this O(rollout) left is mended at
        once.
      - It should be longer than the time-outs that your other pipelines give helm.
    type: float
    default: 600.0
  history_max:
    description:
      - How many revisions Helm keeps; V(0) keeps all. More are kept where Helm would prune the last known good release.
      - Somebody else's C(helm upgrade) prunes by its own limit. When nothing known good is left, going back is refused
        and names what was pruned.
    type: int
    default: 10
  binary_path:
    description: The helm to run. By default the one on the C(PATH).
    type: path
  to:
    description:
      - The release to go back to. It must be known good here and not bad; with O(undo=true) it is enough that Helm
        has it and that it was rolled out whole.
      - Without O(rollout) and O(release) it is a person's wish, and a known good current release is left for it too.
  mark_bad:
    description:
      - When going back, marks the release that is left as bad, with this reason, of which the cluster keeps about 200
        characters. It is not gone back to.
  keep:
    description: Not used here. O(history_max) says how many revisions Helm keeps.
seealso:
  - module: selfheal.delivery.helm_release_info
  - module: selfheal.delivery.rollout
"""

EXAMPLES = r"""
- name: Run version 2.0.1
  selfheal.delivery.helm_release:
    service: shop
    name: shop
    namespace: prod
    release: 2.0.1
    chart: /srv/charts/shop-0.4.2.tgz
    values:
      image:
        tag: 2.0.1

- name: It has proven itself
  selfheal.delivery.helm_release:
    service: shop
    name: shop
    namespace: prod
    release: 2.0.1
    state: promoted

- name: Go back to the last release known to be good
  selfheal.delivery.helm_release:
    service: shop
    name: shop
    namespace: prod
    state: known_good
    release: 2.0.1
    mark_bad: 5 % of requests failed
"""

RETURN = r"""
release:
  description: The release that this was about.
  returned: always
  type: str
  sample: 2.0.1
before:
  description: What ran here before RV(current), where that is known. Null on the first deploy.
  returned: always
  type: str
  sample: 1.0.0
current:
  description: The release of the newest revision. Also returned when the task fails after the change.
  returned: always
  type: str
  sample: 2.0.1
known_good:
  description: Where O(state=known_good) would go to now. Null when there is nothing to go back to.
  returned: always
  type: str
  sample: 1.0.0
actions:
  description: What was done, or in check mode would be done, in this order.
  returned: always
  type: list
  elements: str
  sample: [marked 2.0.1 as bad, went back to 1.0.0 (revision 3) as revision 5]
revision:
  description: Helm's number of the newest revision.
  returned: always
  type: int
  sample: 5
status:
  description: Helm's state of the newest revision.
  returned: always
  type: str
  sample: deployed
chart:
  description: The chart of the newest revision with its version.
  returned: always
  type: str
  sample: shop-0.4.2
not_ready:
  description: What was not ready when the time was up, and why where Helm says so.
  returned: when it was not ready in time
  type: dict
  sample: {Deployment prod/shop: 0 out of 1 expected pods are ready}
took:
  description: Seconds that the change took.
  returned: always
  type: float
  sample: 3.42
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm.options import ARGUMENTS, REQUIRED_IF, change
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=REQUIRED_IF, supports_check_mode=True)
    run_change(module, lambda called: change(called.params, dry=called.check_mode))


if __name__ == "__main__":
    main()
