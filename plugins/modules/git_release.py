#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a release to a Git branch, take it back, or mark it known good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: git_release
short_description: Bring a release to a Git branch, take it back, or mark it known good
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - For GitOps, where a controller such as Argo CD or Flux applies what a branch holds. A release is what lies below
    O(path) on O(branch).
  - Releases are known by annotated tags in the repository itself, C(selfheal/<service>/<scope>/<number>). They are a
    journal of what was deployed, promoted and taken back, and outlive the controller. A tag is never moved.
  - Going back appends one commit after which the content below O(path) is that of the known good release, over as many
    bad releases as there are since. Nothing else in the commit's tree changes, and nothing is ever pushed by force.
  - The branch and its tag are pushed together or not at all. When somebody else's push came first, everything is read
    and decided again. A newer change below O(path) is a conflict, which is told and not overwritten.
  - Works in a temporary bare repository, fetches no file contents where the server can leave them out, and leaves
    nothing behind. No working tree is made, and submodules and hooks of the user are not touched.
  - Needs C(git) 2.29 or newer and Python 3.9 or newer where it runs, often on the controller with
    C(connection=local). Credentials come from the environment of C(git) there, such as a credential helper or an SSH
    agent, or from O(key_file). C(git) is never let ask for a password.
  - It does not wait for the controller that applies the branch.
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
      - Everything but the push is done then. The commit in RV(head) is not in the repository.
  diff_mode:
    support: full
    details:
      - The commit of the branch, the known releases, and the files that change.
  idempotent:
    support: full
options:
  service:
    description:
      - The service that is changed, as the ledger knows it. Always needed. Its releases are kept apart from those of
        other services in the same repository.
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
    description:
      - The folder or file in the repository that belongs to the service. By default the whole tree.
      - Another path, or another branch, is another journal, whose releases are not known here.
    type: str
    default: ""
  ref:
    description:
      - The tag, branch or commit that O(state=deployed) brings to O(branch), by fast-forward only.
      - Without it, what O(branch) holds now is O(release), as after a pipeline's push.
    type: str
  release:
    description:
      - The id of the release, one version of what is deployed. 1 to 128 letters, digits and C(. _ + ~ -), with a letter
        or a digit first.
      - Required for O(state=deployed) and O(state=promoted).
      - With O(state=known_good), the release that has to be left, even if it is known good. When a newer change lies on
        top of it, that is a conflict.
  state:
    description:
      - V(deployed) brings O(ref) to O(branch) where it is given, and records what the branch holds as O(release). A
        known release that is not current is put back on top.
      - V(known_good) goes back to O(to), or to the newest known good release that is neither current nor bad, and whose
        commit the branch still contains. Nothing is done when a known good release is current that was not brought by
        O(rollout).
      - V(promoted) marks the current release, which must be O(release), as known good, and removes the tags of old
        releases.
    type: str
    choices: [deployed, known_good, promoted]
    default: deployed
  to:
    description:
      - The release to go back to. It must be known good here and not bad; with O(undo=true) it is enough that the
        branch's history contains it.
      - Without O(rollout) and O(release) it is a person's wish, and a known good current release is left for it too.
  keep:
    description:
      - How many releases O(state=promoted) keeps the tags of. The current release, the last known good ones and
        O(before) are kept in any case. The commits stay.
      - A server that forbids to remove tags is no error, only a warning.
  author_name:
    description: Who our commits and tags are by.
    type: str
    default: selfheal.delivery
  author_email:
    description: The mail address beside it.
    type: str
    default: selfheal.delivery@localhost
  commit_message:
    description:
      - The text of our commits. By default it says from which release to which. Trailers are added to it, with the
        release, the rollout and its fencing token.
    type: str
  key_file:
    description: The private SSH key for the repository, where the module runs. Without it what C(ssh) would take.
    type: path
  timeout:
    description: Seconds for everything together. After that the task fails; running it again is safe.
    type: float
    default: 120.0
seealso:
  - module: selfheal.delivery.git_release_info
  - module: selfheal.delivery.rollout
"""

EXAMPLES = r"""
- name: Bring version 2.0.1 to the branch that Argo CD applies
  selfheal.delivery.git_release:
    service: shop
    rollout: "{{ shop_rollout.rollout.id }}"
    lease: "{{ shop_rollout.lease }}"
    repository: git@git.example.org:platform/apps.git
    branch: production
    path: apps/shop
    release: 2.0.1
    ref: shop-2.0.1

- name: It has proven itself
  selfheal.delivery.git_release:
    service: shop
    rollout: "{{ shop_rollout.rollout.id }}"
    lease: "{{ shop_rollout.lease }}"
    repository: git@git.example.org:platform/apps.git
    branch: production
    path: apps/shop
    release: 2.0.1
    state: promoted

- name: Go back to the last release known to be good
  selfheal.delivery.git_release:
    service: shop
    repository: https://git.example.org/platform/apps.git
    branch: production
    path: apps/shop
    state: known_good
    release: 2.0.1
    mark_bad: 5 % of requests failed
"""

RETURN = r"""
release:
  description: The release that this was about.
  returned: success
  type: str
  sample: 2.0.1
before:
  description: What was here before RV(current), where that is known. Null on the first deploy.
  returned: success
  type: str
  sample: 1.0.0
current:
  description: The release that the branch holds now, or the id of its commit when nobody has recorded it.
  returned: success
  type: str
  sample: 2.0.1
known_good:
  description: Where O(state=known_good) would go to now. Null when there is nothing to go back to.
  returned: success
  type: str
  sample: 1.0.0
actions:
  description: What was done, or in check mode would be done, in this order.
  returned: success
  type: list
  elements: str
  sample: [marked 2.0.1 as bad, "brought production:apps/shop back to 1.0.0"]
took:
  description: Seconds that the change took.
  returned: success
  type: float
  sample: 1.42
branch:
  description: The branch.
  returned: success
  type: str
  sample: production
head:
  description: The commit that the branch leads to now.
  returned: success
  type: str
  sample: 7e1997f3c163a0b3cf3e6c38fea2bd4e9b324466
previous:
  description: The same as RV(before).
  returned: success
  type: str
  sample: 1.0.0
releases:
  description: The releases, newest first, as M(selfheal.delivery.git_release_info) returns them.
  returned: success
  type: list
  elements: dict
  sample: []
journal:
  description: The last deploy or rollback, as M(selfheal.delivery.git_release_info) returns it.
  returned: success
  type: dict
  sample: {}
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
commits:
  description: On a conflict, the commits that lie between, newest first.
  returned: on a conflict
  type: list
  elements: dict
  contains:
    id:
      description: The commit.
      type: str
    author:
      description: Who made it.
      type: str
    subject:
      description: Its subject.
      type: str
  sample:
    - id: 7e1997f3c163a0b3cf3e6c38fea2bd4e9b324466
      author: Ann
      subject: more memory
files:
  description: On a conflict, the files below O(path) that differ, each with C(A), C(M), C(D) or C(T) before it.
  returned: on a conflict
  type: list
  elements: str
  sample: [M apps/shop/values.yaml]
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._act.git.options import ARGUMENTS, change, secrets
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=REQUIRED_IF, supports_check_mode=True)
    module.no_log_values.update(secrets(module.params))
    run_change(module, lambda called: change(called.params, dry=called.check_mode, parent=called.tmpdir))


if __name__ == "__main__":
    main()
