# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_info
short_description: What the ledger knows of rollouts, leases, commands, and whether its chain holds
description:
  - Reads the ledger on the controller. Nothing is created or changed; a ledger that is not there is an error, so that a
    mistyped path is not taken for an empty record.
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
  service:
    description:
      - Only what concerns this service. By default everything.
      - The chain is always verified as a whole.
    type: str
    default: ""
  limit:
    description:
      - How many of the newest rollouts and entries are returned at most.
    type: int
    default: 20
seealso:
  - module: selfheal.delivery.guard
  - module: selfheal.delivery.guard_info
  - module: selfheal.delivery.ledger_verify
"""

EXAMPLES = r"""
- name: What is under way?
  selfheal.delivery.ledger_info:
  delegate_to: localhost
  register: ledger

- name: The record must be whole
  ansible.builtin.assert:
    that: ledger.chain.ok
    fail_msg: "{{ ledger.chain.problem }}"

- name: Keep the head of the chain where nobody who can write the ledger can write
  ansible.builtin.uri:
    url: https://witness.example.org/heads
    method: POST
    body: "{{ ledger.chain | dict2items | selectattr('key', 'in', ['head', 'entries']) | items2dict }}"
    body_format: json
  delegate_to: localhost
"""

RETURN = r"""
chain:
  description: Whether the hash chain holds.
  returned: success
  type: dict
  contains:
    ok:
      description: Every entry is as it was written, and the rollouts are what the entries say of them.
      type: bool
      sample: true
    problem:
      description: The first thing that is not, in one sentence, or V(null).
      type: str
      sample: null
    head:
      description: The newest entry's hash. Kept elsewhere, it shows whether the newest entries were cut off.
      type: str
      sample: 6d231cbcb49d1d9db46e0da06da7f1567b66a188a87e2e11ecb49fc20b1326a4
    entries:
      description: How many entries the chain has.
      type: int
      sample: 42
leases:
  description: Who is at work on which service now.
  returned: success
  type: list
  elements: dict
  contains:
    service:
      description: The service.
      type: str
      sample: shop
    holder:
      description: The machine and process that holds the lease.
      type: str
      sample: "ci-7:21337"
    token:
      description: The fencing token, higher than that of any holder before.
      type: int
      sample: 12
    expires:
      description: When the lease ends unless it is renewed, in seconds since the epoch.
      type: float
      sample: 1795251653.85
unfinished:
  description: Rollouts that are open, held or unresolved, oldest first. At most one for a service.
  returned: success
  type: list
  elements: dict
  contains: &rollout
    id:
      description: The rollout's id.
      type: str
      sample: 5f2c81d09ab4
    service:
      description: The service.
      type: str
      sample: shop
    release:
      description: The release that was put on the places.
      type: str
      sample: 2.0.0
    kind:
      description: V(canary), or V(watch) for a release that somebody else deployed.
      type: str
      sample: canary
    state:
      description: V(open), V(held), V(unresolved), V(done) or V(undone).
      type: str
      sample: open
    token:
      description: The fencing token of the lease under which it was written to last.
      type: int
      sample: 12
    by:
      description: Who started it.
      type: str
      sample: ada
    opened_at:
      description: When it was started, in seconds since the epoch.
      type: float
      sample: 1795251593.85
    updated_at:
      description: When it was written to last, in seconds since the epoch.
      type: float
      sample: 1795251613.85
    intent:
      description: What was written before the first change. It authorises the undo.
      type: dict
      sample: {"before": {"web1": "1.0.0"}, "fleet": ["web1"]}
    outcome:
      description: How it stands or how it ended.
      type: dict
      sample: {}
rollouts:
  description: The newest rollouts in any state, newest first.
  returned: success
  type: list
  elements: dict
  contains: *rollout
commands:
  description: What people said about the unfinished rollouts, oldest first. As RV(selfheal.delivery.guard#module:said).
  returned: success
  type: list
  elements: dict
entries:
  description: The newest entries of the chain, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    seq:
      description: The entry's number in the chain, from 1 on without a gap.
      type: int
      sample: 42
    at:
      description: When it was written, in seconds since the epoch.
      type: float
      sample: 1795251593.85
    service:
      description: The service it concerns. Empty for what concerns all of them.
      type: str
      sample: shop
    kind:
      description: What kind of entry it is, such as V(trigger), V(decision), V(rollout), V(state) or V(pause).
      type: str
      sample: rollout
    actor:
      description: The person or system.
      type: str
      sample: ada
    body:
      description: What is recorded.
      type: dict
      sample: {"rollout": "5f2c81d09ab4", "state": "open"}
    prev:
      description: The hash of the entry before it.
      type: str
      sample: 3bafe1e99d80cf2ad0cc61b2dc0e9b8e3c3f5b1c8a2f0ac1c7e0b8b1c9d2a7f4
    hash:
      description: Its own hash, over RV(entries[].prev) and everything else in it.
      type: str
      sample: 6d231cbcb49d1d9db46e0da06da7f1567b66a188a87e2e11ecb49fc20b1326a4
statistics:
  description:
    - By service, how often something happened. C(decisions:<action>:<verdict>), C(suppressed:<action>:<reason>),
      C(outcomes:<kind>:<state>) and C(verified:<verdict>) are counts.
    - C(seconds:<kind>:sum) is how long rollouts and actions of a kind took together, C(seconds:<kind>:count) how many
      they were, and C(last_success:<kind>) when one went well last, in seconds since the epoch.
  returned: success
  type: dict
  sample:
    production/shop:
      "decisions:rollback:allowed": 1
      "suppressed:rollback:cooldown": 3
      "outcomes:rollback:done": 1
      "verified:recovered": 1
      "seconds:rollback:sum": 41.7
      "seconds:rollback:count": 1
      "last_success:rollback": 1795251593.85
pauses:
  description: As RV(selfheal.delivery.guard_info#module:pauses).
  returned: success
  type: list
  elements: dict
  sample: []
"""
