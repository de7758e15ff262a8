#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell which release a Git branch holds and what is known of the others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: git_release_info
short_description: Tell which release a Git branch holds, and what is known of the others
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads the branch and the tags that M(selfheal.delivery.git_release) keeps in the repository, and pushes nothing.
  - Needs C(git) 2.29 or newer and Python 3.9 or newer where it runs.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.info
options:
  service:
    description: The service whose releases these are.
    type: str
    required: true
  repository:
    description:
      - The URL of the repository (C(https), C(http), C(ssh), C(git), C(file)), C(user@host:path), or an absolute path.
      - A password in it is not shown in any message or result, but belongs in a credential helper.
    type: str
    required: true
  branch:
    description: The branch that is applied.
    type: str
    default: main
  path:
    description: The folder or file in the repository that belongs to the service. By default the whole tree.
    type: str
    default: ""
  key_file:
    description: The private SSH key for the repository, where the module runs. Without it what C(ssh) would take.
    type: path
  timeout:
    description: Seconds for everything together.
    type: float
    default: 120.0
seealso:
  - module: selfheal.delivery.git_release
"""

EXAMPLES = r"""
- name: What does production hold, and where would we go back to?
  selfheal.delivery.git_release_info:
    service: shop
    repository: git@git.example.org:platform/apps.git
    branch: production
    path: apps/shop
  register: shop

- name: Stop when there is no way back
  ansible.builtin.assert:
    that: shop.known_good is not none
"""

RETURN = r"""
branch:
  description: The branch.
  returned: success
  type: str
  sample: production
head:
  description: The commit that it leads to.
  returned: success
  type: str
  sample: 7e1997f3c163a0b3cf3e6c38fea2bd4e9b324466
current:
  description: The release that the branch holds, or the id of its commit when nobody has recorded it.
  returned: success
  type: str
  sample: 2.0.1
previous:
  description: What was here before it, where the journal knows it.
  returned: success
  type: str
  sample: 1.0.0
known_good:
  description: Where a rollback would go to now. Null when there is nothing to go back to.
  returned: success
  type: str
  sample: 1.0.0
releases:
  description: The releases that the journal knows, newest first.
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
      description: When it was first deployed here, in seconds since the epoch.
      type: float
    by:
      description: Who did that.
      type: str
    digest:
      description: The id in Git of its content below O(path), a tree or a file.
      type: str
    complete:
      description: Whether the branch's history contains it. One that it does not contain cannot be gone back to.
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
      digest: a1d7ed8716e54a8278e07c2745b7488cdd503428
      complete: true
      known_good:
        at: 1795251933.5
        rollout: r-17
      bad: null
      rollback: allowed
journal:
  description: The last deploy or rollback. Null when there was none.
  returned: success
  type: dict
  contains:
    state:
      description: Its direction, V(deployed) or V(known_good).
      type: str
    before:
      description: What was there before it.
      type: str
    to:
      description: Where it went to.
      type: str
    phase:
      description: Always V(settled), because a push is whole or not at all.
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
      description: Always empty.
      type: str
    settled:
      description: Always true.
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
  description: Whether the branch holds what was recorded last. False when a newer change lies on top of it.
  returned: success
  type: bool
  sample: true
token:
  description: The highest fencing token seen here. Null when there was none.
  returned: success
  type: int
  sample: 42
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.git.options import INFO_ARGUMENTS, secrets, see
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=INFO_ARGUMENTS, supports_check_mode=True)
    module.no_log_values.update(secrets(module.params))
    run(module, lambda called: see(called.params, parent=called.tmpdir))


if __name__ == "__main__":
    main()
