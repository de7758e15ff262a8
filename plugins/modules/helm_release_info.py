#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell which releases a Helm release has had and what is known of them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_release_info
short_description: Tell which releases a Helm release has had, and what is known of them
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads Helm's history and what M(selfheal.delivery.helm_release) keeps beside it, without changing anything.
  - Values and objects of a chart are not read.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.info
  - selfheal.delivery.kubernetes
requirements:
  - helm 3.13 or newer, of major version 3, where the task runs
options:
  name:
    description:
      - The name of the Helm release. One that is not there has no releases, and a warning names the nearest one.
    type: str
    required: true
  namespace:
    description: The namespace of the Helm release. It has to be there.
    type: str
    required: true
  binary_path:
    description: The helm to run. By default the one on the C(PATH).
    type: path
seealso:
  - module: selfheal.delivery.helm_release
"""

EXAMPLES = r"""
- name: What runs here, and where would we go back to?
  selfheal.delivery.helm_release_info:
    name: shop
    namespace: prod
  register: shop

- name: Stop when there is no way back
  ansible.builtin.assert:
    that: shop.known_good is not none
"""

RETURN = r"""
current:
  description: The release of the newest revision. Null when there is none, or when it is uninstalled.
  returned: success
  type: str
  sample: 2.0.1
previous:
  description: What ran before it, where that is known.
  returned: success
  type: str
  sample: 1.0.0
known_good:
  description: Where a rollback would go to now. Null when there is nothing to go back to.
  returned: success
  type: str
  sample: 1.0.0
releases:
  description: The releases that Helm still has, newest first. What nobody named is C(revision-<number>).
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
      description: When its oldest revision was deployed, in seconds since the epoch.
      type: float
    by:
      description: Who did that.
      type: str
    digest:
      description: Over its chart and values, salted. Empty for what was deployed by somebody else.
      type: str
    complete:
      description: Whether it was rolled out whole, so that one can go back to it.
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
      digest: 3d9ec35c2ad420a6032f9259606c81aec00e47c8
      complete: true
      known_good:
        at: 1795251933.5
        rollout: r-17
      bad: null
      rollback: allowed
journal:
  description: How the newest revision came to be. Null when there is none.
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
      description: How far it came, one of V(switching), V(failed), V(settled).
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
  description: Whether Helm says that the newest revision is deployed. False after a run that failed or was killed.
  returned: success
  type: bool
  sample: true
token:
  description: The highest fencing token seen here. Null when there was none.
  returned: success
  type: int
  sample: 42
revision:
  description: Helm's number of the newest revision. Null when there is none.
  returned: success
  type: int
  sample: 5
status:
  description: Helm's state of the newest revision. Null when there is none.
  returned: success
  type: str
  sample: deployed
chart:
  description: The chart of the newest revision with its version. Null when there is none.
  returned: success
  type: str
  sample: shop-0.4.2
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm.options import INFO_ARGUMENTS, look
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=INFO_ARGUMENTS, supports_check_mode=True)
    run_change(module, lambda called: look(called.params))


if __name__ == "__main__":
    main()
