# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that rules or routes are written to, and how it is checked and read."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  path:
    description: The file, on the host that the play is on. Its folder is made where there is none.
    type: path
  checker:
    description:
      - The program that checks the text, C(promtool) or C(amtool), by name or path.
      - By default it is looked for on the PATH, and where it is missing a warning says that nothing was checked.
    type: path
  must_check:
    description: Whether to fail where there is no program to check the text.
    type: bool
    default: false
  force:
    description: Whether to replace a file that this collection has not written.
    type: bool
    default: false
  owner:
    description: The owner of the file. By default it stays.
    type: str
  group:
    description: The group of the file. By default it stays.
    type: str
  mode:
    description: The permissions of the file, such as V('0640'). By default they stay.
    type: raw
  reload_url:
    description:
      - The address of Prometheus or Alertmanager. When the file has changed, it is asked to read it. When it does not,
        the file is what it was, and the task fails.
      - Prometheus allows it only with C(--web.enable-lifecycle).
    type: str
  reload_username:
    description: A user who may ask for that.
    type: str
  reload_password:
    description: That user's password.
    type: str
  reload_timeout:
    description: How many seconds reading it may take.
    type: float
    default: 30
  validate_certs:
    description: Whether the certificate of O(reload_url) has to be valid.
    type: bool
    default: true
"""
