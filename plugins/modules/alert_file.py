# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a file of alert rules, or Alertmanager's configuration, that was checked. The work is in _alerting/keep.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_file
short_description: Keep a file of alert rules, or Alertmanager's configuration, that was checked and is read
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Has C(promtool) or C(amtool) check the text, replaces the file by it, and asks Prometheus or Alertmanager to read
    it.
  - When the check fails, or the file is not read, the file is what it was.
  - Runs on the machine where the file belongs. M(selfheal.delivery.alert_rules) and M(selfheal.delivery.alert_route)
    call it with what they make.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.alerting
attributes:
  check_mode:
    support: full
    details:
      - The text is checked, and nothing is written or reloaded.
  diff_mode:
    support: full
    details:
      - With O(secret) it says that the file differs, not how.
  idempotent:
    support: full
options:
  path:
    required: true
  content:
    description: The text. Without the line that marks our files, it gets one.
    type: str
    required: true
  kind:
    description: What it is, and so who checks it, V(rules) by C(promtool), V(alertmanager) by C(amtool).
    type: str
    required: true
    choices: [alertmanager, rules]
  secret:
    description:
      - Whether the text may hold secrets. Then neither the text nor what the checker says of it is shown, and a new
        file is readable by its owner and group alone.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Rules of our own, checked and read
  selfheal.delivery.alert_file:
    path: /etc/prometheus/rules/own.yml
    content: "{{ lookup('ansible.builtin.file', 'own.rules.yml') }}"
    kind: rules
    must_check: true
    reload_url: http://127.0.0.1:9090
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/prometheus/rules/own.yml
checked_by:
  description: The program that found the text to be right; empty where there is none, which is warned of.
  returned: success
  type: str
  sample: /usr/bin/promtool
reloaded:
  description: Whether what runs was asked to read the file, and has.
  returned: success
  type: bool
  sample: true
"""

from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.alert_file import ARGUMENTS, alert_file
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import run_change


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    run_change(module, alert_file)


if __name__ == "__main__":
    main()
