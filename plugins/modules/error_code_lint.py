#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what is wrong with a catalogue of error codes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: error_code_lint
short_description: Find what is wrong with a catalogue of error codes
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads a catalogue of error codes and names every mistake in it with its line and its key.
  - Holds it against the version that was committed last. A code keeps its class, its title and its beginning for ever,
    and none is removed, because what was sent and logged under it stays.
  - Holds each public message against words that tell end users how the service is built.
  - The task fails when there is an error among the problems.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
requirements:
  - git, unless O(against_file) is given
notes:
  - Runs on the controller, whatever host the play is on, unless the task is delegated to a host that is not local.
options:
  catalogue:
    description:
      - The YAML file. Its keys are told in C(docs/error-codes.md).
    type: path
    required: true
  against_ref:
    description:
      - The commit, branch or tag of the file's own git repository that it is held against. C(HEAD) when it is empty.
      - In a pipeline, where the file is committed already, name the branch that it goes to.
      - Where this is empty and the file lies in no git repository, there is a warning among the problems.
    type: str
    default: ""
  against_file:
    description: A file with the earlier version, in place of git.
    type: path
  reworded:
    description: Codes whose title says the same as before in other words.
    type: list
    elements: str
    default: []
  strict:
    description: Fail on warnings, too.
    type: bool
    default: false
seealso:
  - module: selfheal.delivery.error_code_rules
  - plugin: selfheal.delivery.error_code
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Are the error codes in order, held against what was committed last?
  selfheal.delivery.error_code_lint:
    catalogue: "{{ playbook_dir }}/error_codes.yml"

- name: In a pipeline, against the branch that it goes to
  selfheal.delivery.error_code_lint:
    catalogue: "{{ playbook_dir }}/error_codes.yml"
    against_ref: origin/main
    strict: true
"""

RETURN = r"""
problems:
  description: What is wrong, in the order of the lines.
  returned: success
  type: list
  elements: dict
  contains:
    line:
      description: The line in the file, from 1.
      type: int
    key:
      description: Where it is, the code and its key.
      type: str
    rule:
      description: A short name of the rule that it breaks.
      type: str
    text:
      description: What is wrong.
      type: str
    mend:
      description: What to do about it.
      type: str
    level:
      description: V(error) or V(warning).
      type: str
  sample:
    - line: 14
      key: SHOP-CART-001.severity
      rule: choice
      text: "it must be one of critical, error, warning, info, not 'critcal' (did you mean 'critical'?)"
      mend: Correct severity
      level: error
errors:
  description: How many of the problems are errors.
  returned: success
  type: int
  sample: 1
compared:
  description: What it was held against, the file or commit as it was named. Empty where there is no earlier version.
  returned: success
  type: str
  sample: HEAD
msg:
  description: All problems in words.
  returned: always
  type: str
  sample: "error_codes.yml: no problems"
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.code_tasks import (
    ERROR_CODE_LINT,
    error_code_lint,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ERROR_CODE_LINT, supports_check_mode=True)
    run(module, lambda called: error_code_lint(called.params))


if __name__ == "__main__":
    main()
