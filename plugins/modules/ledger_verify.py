# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_verify
short_description: Fail when anything in the ledger is not as it was written
description:
  - Goes through the whole hash chain of the ledger, and compares with it what the rollouts and the guard's memory say.
    It fails with one sentence that names the first entry that was changed, removed, moved or slipped in.
  - That the newest entries were cut off, or the whole chain was written anew, shows only by a O(head) that was kept
    where nobody who can write the ledger can write.
  - It runs once for a play, whatever hosts are in it. With C(run_once=true) every host gets the registered result.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.attributes.info
  - selfheal.delivery.ledger
options:
  head:
    description:
      - A head of this ledger that was kept elsewhere, as RV(head) returned it then.
      - Keep it newer than the entries that M(selfheal.delivery.ledger_export) removes.
    type: str
    default: ""
seealso:
  - module: selfheal.delivery.ledger_info
  - module: selfheal.delivery.ledger_export
"""

EXAMPLES = r"""
- name: The ledger must be whole, and go on from the head that was kept last night
  selfheal.delivery.ledger_verify:
    head: "{{ lookup('ansible.builtin.url', 'https://witness.example.org/heads/last') }}"
  register: verified

- name: Keep the head of today
  ansible.builtin.uri:
    url: https://witness.example.org/heads/last
    method: PUT
    body: "{{ verified.head }}"
"""

RETURN = r"""
head:
  description: The newest entry's hash. Empty before the first entry.
  returned: always
  type: str
  sample: 6d231cbcb49d1d9db46e0da06da7f1567b66a188a87e2e11ecb49fc20b1326a4
entries:
  description: The number of the newest entry.
  returned: always
  type: int
  sample: 42
problem:
  description: The first thing that is not as it was written, or V(null).
  returned: always
  type: str
  sample: Entry 17 was changed after it had been written.
msg:
  description: The same in words, and what to do next.
  returned: always
  type: str
  sample: The ledger is whole, 42 entries
"""
