# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules and actions say of themselves in the same words."""

from __future__ import annotations


class ModuleDocFragment:
    # the bare attributes; whoever extends this says how far each is supported
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what would change without changing anything.
  diff_mode:
    description: Returns details on what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    description: When run twice in a row with the same options, the second run changes nothing.
"""

    # for what only looks
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - It only looks and never changes anything.
  diff_mode:
    support: N/A
    details:
      - It only looks and never changes anything.
  idempotent:
    support: full
    details:
      - It only looks and never changes anything. What it sees may differ from one run to the next.
"""

    # for what runs on the controller as an action plugin
    ACTION = r"""
options: {}
attributes:
  action:
    description: Has an action plugin, which runs on the controller.
    support: full
  async:
    description: Can be used with the C(async) keyword.
    support: none
    details:
      - It runs on the controller, where C(async) has no meaning.
"""

    # for what plans, watches and records a rollout; action_common_attributes, with actiongroups and flow, describe them
    PLAY = r"""
options: {}
attributes:
  action:
    support: full
  async:
    support: none
  bypass_host_loop:
    support: full
  diff_mode:
    support: none
  idempotent:
    description: Running it twice has no more effect than running it once.
  platform:
    platforms: posix
"""

    # for what finds out and asks; named before fleet.plan: what is said first of an attribute stays
    ASKING = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - Everything is asked and checked, and nothing is recorded.
"""
