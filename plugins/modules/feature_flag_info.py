#!/usr/bin/python
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a feature flag's provider says of it, and what its clients are served."""

from __future__ import annotations

DOCUMENTATION = r"""
module: feature_flag_info
short_description: What a feature flag's provider says of it, and what its clients are served
version_added: 1.1.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Asks the management side of a flag's provider for the flag's state, and asks what a client is served now. The two
    may differ, for as long as clients take to hear of a change, or for good.
  - Fails when management cannot be asked, or does not know the flag. That nobody can tell what clients are served is an
    answer.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
  - selfheal.delivery.flags
seealso:
  - module: selfheal.delivery.feature_flag
  - plugin: selfheal.delivery.feature_flag
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Is the new search on, and for whom?
  selfheal.delivery.feature_flag_info:
    flag: new-search
    project: default
    environment: production
    provider:
      type: unleash
      url: https://unleash.example.org
      token_file: /run/secrets/unleash
      client_token_file: /run/secrets/unleash-client
  register: search

- name: Say what clients are served
  ansible.builtin.debug:
    msg: "{{ search.served.value if search.served.known else search.served.why }}"
"""

RETURN = r"""
flag:
  description: The flag.
  returned: success
  type: str
  sample: new-search
environment:
  description: The environment, as it was asked for.
  returned: success
  type: str
  sample: production
project:
  description: The project, as it was asked for.
  returned: success
  type: str
  sample: default
provider:
  description: The provider's type.
  returned: success
  type: str
  sample: unleash
state:
  description: What the provider's management says.
  returned: success
  type: dict
  contains:
    "on":
      description: Whether it is on. Off says nothing about the value that clients are served.
      type: bool
    percentage:
      description: How many of 100 get the on side while it is on. Null where that depends on more than one number.
      type: float
    variation:
      description: The variation that is served, where the provider has them.
      type: str
    pending:
      description: The change that waits for an approval or a schedule. Empty when there is none.
      type: str
    revision:
      description: The flag's version, where the provider tells one.
      type: str
    note:
      description: What else a person should know, such as rules that are kept for later.
      type: str
  sample: {"on": true, "percentage": 100.0, "variation": "", "pending": "", "revision": "7", "note": ""}
served:
  description: What clients are served.
  returned: success
  type: dict
  contains:
    known:
      description: Whether that could be found out. A flag whose clients get the default in their own code is not known.
      type: bool
    value:
      description: The value, when it is known and the same for everybody who was asked about, else null.
      type: raw
    percentage:
      description: How many of 100 clients get the on side, where the rules that clients read say so.
      type: float
    why:
      description: Why it is not known.
      type: str
    by:
      description: How it was found out.
      type: str
  sample: {"known": true, "value": true, "percentage": 100.0, "why": "", "by": "client API"}
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import look_at
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.options import INFO_ARGUMENTS


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=INFO_ARGUMENTS, supports_check_mode=True)
    run(module, lambda called: look_at(called.params))


if __name__ == "__main__":
    main()
