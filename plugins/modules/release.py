#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put a release on a place, take it back, or mark it known good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Put a release on a place, take it back, or mark it known good
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Keeps releases side by side below O(path) and lets C(current) lead to one of them, in the layout of Capistrano and
    Deployer. C(releases/<id>) holds a release with what is known of it, C(shared/) what outlives releases, C(current)
    is a symbolic link that is switched by one rename, and C(.delivery/) holds a lock, the journal and the highest
    fencing token seen.
  - Restarts what serves the release and waits until it is healthy, both in this same task. They cannot be left to a
    handler, because a canary is watched before handlers run.
  - Every phase is on disk before the next begins. A run that was killed at any step is finished, or taken back, by
    running the module again.
  - Going back is the switch and the restart. Nothing is built or copied.
  - Needs Python 3.9 or newer on the machine, and nothing besides it.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
  - selfheal.delivery.acting
  - selfheal.delivery.wishes
  - selfheal.delivery.wishes.back
attributes:
  action:
    support: full
  check_mode:
    support: full
    details:
      - Nothing is copied, run or asked then.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  backend:
    description:
      - What the place is. V(releases) is a folder on a machine, which is what the description above is about.
      - The others are done by modules of their own, which are handed this one's wishes and O(backend_options).
        V(deployment) is done by M(selfheal.delivery.kubernetes_rollout), V(argo_rollout) by
        M(selfheal.delivery.argo_rollout), V(helm) by M(selfheal.delivery.helm_release), V(git) by
        M(selfheal.delivery.git_release) and V(flag) by M(selfheal.delivery.feature_flag).
      - With V(flag) O(release) is V(on), and O(to) can be V(off) alone; O(backend_options) are those of that module
        that say which flag it is, with C(serve) and C(serve_off), the values of the two sides.
    type: str
    choices: [releases, deployment, argo_rollout, helm, git, flag]
    default: releases
  backend_options:
    description:
      - The options of the module that O(backend) stands for, which say where the release goes to.
      - In any text of it C({release}) stands for O(release), such as in C(images), C(values) or C(ref).
    type: dict
    default: {}
  share:
    description:
      - The percentage of the place's traffic that O(release) gets with O(state=deployed), where old and new can serve
        side by side, which are V(deployment) and V(argo_rollout), or the percentage of users with V(flag).
    type: float
    default: 100.0
  path:
    description:
      - The absolute path of the folder that holds C(releases), C(shared) and C(current). Required for
        O(backend=releases).
      - It is made when it is not there and O(src) is given.
    type: path
  state:
    description:
      - V(deployed) stages O(release) if it is not there, switches to it, restarts and waits until it is healthy.
        Nothing is done when it is current and healthy. When the restart or the health check fails, the task fails,
        C(current) stays on the new release, and the journal says so.
      - V(known_good) goes back to O(to), or to the newest known good release that is neither current nor bad.
        Nothing is done when a known good release is current that was not brought by O(rollout).
      - V(promoted) marks the current release, which must be O(release), as known good, and removes old releases.
      - V(restarted) restarts what runs, and waits until it is healthy. Each run does it again. Only with
        O(backend=releases) and O(backend=deployment).
    type: str
    choices: [deployed, known_good, promoted, restarted]
    default: deployed
  src:
    description:
      - The content of the release, a folder or a tar archive (plain, gzip, bzip2 or xz) on the controller, or with
        O(remote_src=true) on the machine.
      - Without it, C(releases/<id>) must have been prepared, complete, by somebody else.
      - An id whose release has other content is refused.
      - Archives may not hold absolute names, names or links that leave the release, devices, or a name twice.
    type: path
  remote_src:
    description: O(src) is on the machine already.
    type: bool
    default: false
  shared:
    description:
      - Paths inside the release that become links into C(shared/) when it is staged.
      - If C(shared/) does not have the path yet, it begins with what the release brings there. If the release brings
        nothing either, a path that ends with C(/) begins as an empty folder, and any other path is an error.
    type: list
    elements: str
    default: []
  restart:
    description: How to restart what serves the release. Without it nothing is restarted.
    type: dict
    suboptions:
      command:
        description:
          - The command, as a list of words, or as a text that is split into words. No shell runs it.
          - It must be safe to run again. What it starts in the background keeps running; its output goes to
            C(.delivery/restart.log), unless the command sends it elsewhere.
          - Exactly one of O(restart.command) and O(restart.service) is needed.
        type: raw
      service:
        description: The name of a service of the machine, restarted by systemd or by C(service).
        type: str
      chdir:
        description: Where to run the command, relative to O(path).
        type: path
        default: current
      timeout:
        description: Seconds after which the command is ended, and the restart has failed.
        type: float
        default: 60.0
  health:
    description: How to see that the release is healthy. Without it a successful restart is enough.
    type: dict
    suboptions:
      url:
        description:
          - An C(http) or C(https) address to ask. Proxies are not used and redirects are not followed.
          - Exactly one of O(health.url) and O(health.command) is needed.
        type: str
      command:
        description: A command that ends with 0 when the release is healthy, run in C(current) like O(restart.command).
        type: raw
      status:
        description: The HTTP status codes that mean healthy.
        type: list
        elements: int
        default: [200]
      contains:
        description: A text that the answer or the command's output must contain, such as the version.
        type: str
      timeout:
        description: Seconds within which the release must become healthy.
        type: float
        default: 30.0
      interval:
        description: Seconds between two tries.
        type: float
        default: 1.0
  lock_timeout:
    description: Seconds to wait for another run on the same O(path). After that the task fails and says who it is.
    type: float
    default: 10.0
seealso:
  - module: selfheal.delivery.release_info
  - module: selfheal.delivery.rollout
"""

EXAMPLES = r"""
- name: Run version 2.0.1
  selfheal.delivery.release:
    service: shop
    rollout: "{{ shop_rollout.rollout.id }}"
    lease: "{{ shop_rollout.lease }}"
    path: /srv/shop
    release: 2.0.1
    src: shop-2.0.1.tar.gz
    shared: [config/secrets.env, uploads/]
    restart:
      service: shop
    health:
      url: http://127.0.0.1:8080/healthz
      contains: 2.0.1

- name: It has proven itself
  selfheal.delivery.release:
    service: shop
    rollout: "{{ shop_rollout.rollout.id }}"
    lease: "{{ shop_rollout.lease }}"
    path: /srv/shop
    release: 2.0.1
    state: promoted
    keep: 3

- name: Go back to the last release known to be good
  selfheal.delivery.release:
    service: shop
    rollout: "{{ shop_rollout.rollout.id }}"
    lease: "{{ shop_rollout.lease }}"
    path: /srv/shop
    state: known_good
    release: 2.0.1
    mark_bad: 5 % of requests failed
    restart:
      command: [/srv/shop/bin/restart, --now]
      timeout: 20
    health:
      url: http://127.0.0.1:8080/healthz
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
  description: What C(current) leads to now. Also returned when the task fails after the switch.
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
  sample: [staged 2.0.1, switched to 2.0.1, restarted 2.0.1]
share:
  description: Of 100 clients, how many are served what is on. Null where the flag's own rules say whom.
  returned: O(backend=flag)
  type: float
  sample: 5.0
status:
  description: How the change ended, as RV(selfheal.delivery.feature_flag#module:status).
  returned: O(backend=flag)
  type: str
  sample: effective
took:
  description: Seconds that the change took.
  returned: always
  type: float
  sample: 1.42
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.options import (
    ARGUMENTS,
    RELEASES_REQUIRED_IF,
    change,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change


def main() -> NoReturn:
    module = AnsibleModule(
        argument_spec=ARGUMENTS, required_if=REQUIRED_IF + RELEASES_REQUIRED_IF, supports_check_mode=True
    )
    run_change(module, lambda called: change(called.params, dry=called.check_mode).as_dict())


if __name__ == "__main__":
    main()
