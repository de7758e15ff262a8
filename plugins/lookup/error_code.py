# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An entry of the catalogue of error codes, in an expression."""

from __future__ import annotations

DOCUMENTATION = r"""
name: error_code
short_description: What a catalogue says of an error code
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Reads a catalogue of error codes on the controller and returns the entry of each code that is asked for.
  - A code that the catalogue does not have is an error that names the nearest one. So is a catalogue with a mistake.
  - An entry is for those who run the service. End users are shown its C(public_message) at most.
options:
  _terms:
    description: The codes.
    required: true
    type: list
    elements: str
  catalogue:
    description: The YAML file with the codes.
    type: path
    required: true
    vars:
      - name: delivery_error_codes
seealso:
  - module: selfheal.delivery.error_code_lint
  - module: selfheal.delivery.error_code_gate
"""

EXAMPLES = r"""
- name: Who is to be asked, and what is to be read?
  ansible.builtin.debug:
    msg: "{{ code.title }}: {{ code.owner }}, {{ code.runbook }}"
  vars:
    delivery_error_codes: "{{ playbook_dir }}/error_codes.yml"
    code: "{{ lookup('selfheal.delivery.error_code', 'SHOP-CART-001') }}"
"""

RETURN = r"""
_raw:
  description: >-
    For each code a dictionary with C(code), C(title), C(class), C(owner), C(severity), C(retryable), C(attributable),
    C(response), C(flag), C(runbook), C(public_message), C(since), C(deprecated), C(replaced_by), and C(alert) with
    C(for), C(keep_firing_for), C(window), C(min_count) and C(ratio), durations in seconds. What the catalogue does not
    say is empty, or the default.
  type: list
  elements: dict
"""

from typing import Any, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import failure
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import load


class LookupModule(LookupBase):
    def run(self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> List[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            catalogue = load(str(self.get_option("catalogue")))
            return [catalogue.code(str(term)).as_dict() for term in terms]
        except Exception as error:
            message = str(failure(error)["msg"])
        raise AnsibleLookupError(message)
