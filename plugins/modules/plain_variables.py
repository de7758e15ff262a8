# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plain_variables
short_description: Fail when a variable holds a template
description:
  - To Ansible, text in C(-e) is a template. Whoever fills such a variable, as the text of an alert or a webhook does,
    can run commands on the controller as soon as anything reads it; to validate a role's arguments is to read it.
  - This task looks at variables without rendering them, and fails when a text in them, a key included, holds C({{),
    C({%), C({#) or C(#jinja2:), or when it cannot look at a value without rendering it, such as one that is vaulted.
  - It has to come before whatever reads the variables. The V(hosts) of a play are read before its first task, so what
    they name is looked at in a play before.
  - It cannot tell who wrote a template. A variable that is looked at may not be a template in the inventory either.
  - It runs once for a play, whatever hosts are in it, and sees the variables of the first of them.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
options:
  names:
    description: The names of the variables. One that is not set is fine.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Look at what was handed on
  hosts: localhost,all
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Take nothing that Ansible would execute
      selfheal.delivery.plain_variables:
        names: [delivery_service, alert]
      tags: [always]

- name: Act on it
  hosts: "{{ groups[delivery_service] }}"
  tasks:
    - name: Say what it is
      ansible.builtin.debug:
        msg: "{{ alert.labels.alertname }}"
"""

RETURN = r"""
variable:
  description: The variable that is not plain.
  returned: on failure
  type: str
  sample: rollback_trigger
msg:
  description: Where the template is, and its first 40 characters; or that there is none.
  returned: always
  type: str
  sample: No template in delivery_service, alert
"""
