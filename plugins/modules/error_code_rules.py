# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: error_code_rules
short_description: Make alert rules, an Alertmanager route and a page of runbooks of a catalogue of error codes
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Writes C(error_codes.rules.yml) for Prometheus, with one alert for each code, C(error_codes.alertmanager.yml) where
    there is a O(route), and C(error_codes.runbooks.md), a page for those who are paged.
  - The same catalogue always gives the same files. One that has a mistake gives none, and nothing is changed.
  - What stands in the catalogue is data. It cannot break out of PromQL, YAML, templates or Markdown.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - Runs on the controller, whatever host the play is on, and writes there.
options:
  catalogue:
    description: The YAML file with the codes.
    type: path
    required: true
  dest:
    description: The folder to write to, which is made where there is none. Each file is replaced whole, or left.
    type: path
    required: true
  metric:
    description: The counter of errors, a PromQL selector.
    type: str
    default: app_errors_total
  route:
    description:
      - Who is told by Alertmanager. Its configuration cannot include files, so the routes and receivers of
        C(error_codes.alertmanager.yml) have to be merged into it, before routes that would take these alerts.
      - Without it that file is not written.
    type: dict
    suboptions:
      receiver:
        description: The receiver of your Alertmanager that is told of every code without a receiver of its own.
        type: str
        required: true
      owners:
        description: Receivers of your Alertmanager by owner, as the catalogue names the owners.
        type: dict
        default: {}
      webhook_url:
        description:
          - Where the controller takes alerts. Those whose first response is to act go there, too, as well as to the
            owner.
          - Without it, and without O(route.webhook_url_file), alerts only page.
        type: str
      webhook_url_file:
        description: A file on Alertmanager's machine with that URL, where it is a secret.
        type: str
seealso:
  - module: selfheal.delivery.error_code_lint
"""

EXAMPLES = r"""
- name: Alert on every error code
  selfheal.delivery.error_code_rules:
    catalogue: "{{ playbook_dir }}/error_codes.yml"
    dest: "{{ playbook_dir }}/generated"
    route:
      receiver: on-call
      owners:
        team-shop: shop-on-call
      webhook_url: http://127.0.0.1:5000/alerts
"""

RETURN = r"""
files:
  description: The files that belong to the catalogue.
  returned: success
  type: list
  elements: str
  sample: [generated/error_codes.rules.yml, generated/error_codes.alertmanager.yml, generated/error_codes.runbooks.md]
written:
  description: Those of them that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [generated/error_codes.rules.yml]
codes:
  description: How many codes the catalogue has.
  returned: success
  type: int
  sample: 42
"""
