#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell which releases are on a place and what is known of them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: Tell which releases are on a place, and what is known of them
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads what M(selfheal.delivery.release) keeps below O(path), without a lock and without changing anything.
  - For another O(backend) it is the info module of that backend that answers, with facts of the same names.
  - Needs Python 3.9 or newer on the machine, and nothing besides it.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.info
attributes:
  action:
    description: Has an action plugin, which runs on the controller.
    support: full
options:
  backend:
    description:
      - What the place is. V(releases) is a folder on a machine.
      - The others are asked by M(selfheal.delivery.kubernetes_rollout_info) for V(deployment) and V(argo_rollout), by
        M(selfheal.delivery.helm_release_info) for V(helm), by M(selfheal.delivery.git_release_info) for V(git) and by
        M(selfheal.delivery.feature_flag_info) for V(flag).
      - With V(flag), C(share) of 100 clients are served what is on, C(canary) is V(on) while that is a part of them,
        and C(active) is V(on) as long as there are any.
    type: str
    choices: [releases, deployment, argo_rollout, helm, git, flag]
    default: releases
  backend_options:
    description: The options of the module that changes the place; those that say where it is are used.
    type: dict
    default: {}
  service:
    description: The service, as the ledger knows it. Required for O(backend=git), whose tags carry its name.
    type: str
  path:
    description:
      - The absolute path of the folder that holds C(releases), C(shared) and C(current). Required for
        O(backend=releases).
    type: path
seealso:
  - module: selfheal.delivery.release
"""

EXAMPLES = r"""
- name: What runs here, and where would we go back to?
  selfheal.delivery.release_info:
    path: /srv/shop
  register: shop

- name: Stop when there is no way back
  ansible.builtin.assert:
    that: shop.known_good is not none
"""

RETURN = r"""
current:
  description: The release that C(current) leads to. Null when nothing was deployed yet.
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
  description: The releases on this machine, newest first.
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
      description: When it was staged here, in seconds since the epoch.
      type: float
    by:
      description: Who did that.
      type: str
    digest:
      description: SHA-256 over its content. Empty for a folder that was prepared by somebody else.
      type: str
    complete:
      description: Whether it can be switched to. A folder that nobody vouches for cannot.
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
journal:
  description: The last change of this machine. Null when there was none.
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
      description: How far it came, one of V(switching), V(restarting), V(checking), V(failed), V(settled).
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
free_bytes:
  description: Free space on the file system of O(path).
  returned: success
  type: int
  sample: 82390384640
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.options import (
    INFO_ARGUMENTS,
    RELEASES_REQUIRED_IF,
    look,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=INFO_ARGUMENTS, required_if=RELEASES_REQUIRED_IF, supports_check_mode=True)
    run(module, lambda called: look(called.params))


if __name__ == "__main__":
    main()
