# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_export
short_description: Write the ledger's entries to a file, and remove old ones that were exported
description:
  - Appends to O(dest) what it does not hold yet, one JSON document on each line, so that it can be called at any time.
    The file is replaced as a whole, or stays as it was.
  - Each line holds its whole entry, in every format, so that the chain of an export can be verified without the ledger.
  - It refuses to go on with a file that the ledger does not go on from. Such a file shows that the ledger was cut off
    or written anew.
  - It runs once for a play, whatever hosts are in it. With C(run_once=true) every host gets the registered result.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
attributes:
  check_mode:
    support: full
    details:
      - RV(pruned) is then how many entries would be removed at most.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  dest:
    description:
      - The file on the controller, in a folder that is there. It is created for its owner alone.
      - After it was moved away, the export begins with the oldest entry that the ledger keeps.
    type: path
    required: true
  format:
    description:
      - V(jsonl) are the entries as they are.
      - V(cloudevents) are CloudEvents 1.0 in the JSON format, of the types C(delivery.selfheal.ledger.<kind>).
      - V(cdevents) are CloudEvents that carry CDEvents 0.4.1 where those have a word for it, namely
        C(service.deployed), C(service.upgraded), C(service.rolledback), C(incident.detected) and C(incident.resolved).
    type: str
    choices: [jsonl, cloudevents, cdevents]
    default: jsonl
  after:
    description: Replace O(dest) by the entries after this number, instead of appending to it. V(0) are all.
    type: int
  prune_before:
    description:
      - Remove entries from the ledger that are older than this, such as V(720h), once they are in O(dest).
      - The chain goes on from them, and M(selfheal.delivery.ledger_verify) still holds. What is unfinished, and the
        newest rollouts of each service, stay.
    type: str
  source:
    description: The URI reference that events name as their source. Give each ledger its own.
    type: str
    default: /selfheal/ledger
  environment:
    description: The environment of services whose names have none. Without it, they have no CDEvents.
    type: str
    default: ""
seealso:
  - module: selfheal.delivery.ledger_verify
"""

EXAMPLES = r"""
- name: Export every night, and keep 90 days
  selfheal.delivery.ledger_export:
    dest: /var/log/selfheal/ledger.jsonl
    prune_before: 2160h

- name: What happened since the events were sent last
  selfheal.delivery.ledger_export:
    dest: /var/spool/selfheal/events.jsonl
    format: cdevents
    source: https://ci.example.org/selfheal
    after: "{{ sent_last }}"
"""

RETURN = r"""
dest:
  description: The file.
  returned: success
  type: str
  sample: /var/log/selfheal/ledger.jsonl
exported:
  description: How many entries were written.
  returned: success
  type: int
  sample: 12
last:
  description: The number of the last entry in the file.
  returned: success
  type: int
  sample: 42
head:
  description: The hash of the last entry in the file. Kept elsewhere, it shows whether the ledger was cut off.
  returned: success
  type: str
  sample: 6d231cbcb49d1d9db46e0da06da7f1567b66a188a87e2e11ecb49fc20b1326a4
pruned:
  description: How many entries were removed from the ledger.
  returned: success
  type: int
  sample: 0
msg:
  description: The same in words, or what went wrong.
  returned: always
  type: str
  sample: 12 entries exported to /var/log/selfheal/ledger.jsonl, up to entry 42; 0 removed from the ledger
"""
