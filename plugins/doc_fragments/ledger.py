# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every plugin says about the ledger's options."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  ledger:
    description:
      - Where the ledger is, the durable record of leases, rollouts, commands, and what was decided and done.
      - It lies on the controller. Everything that acts on a service must name the same one.
    type: dict
    default: {}
    suboptions:
      store:
        description:
          - The kind of store. V(sqlite) is one file, for one controller.
        type: str
        choices: [sqlite]
        default: sqlite
      path:
        description:
          - The file of the V(sqlite) store. It is created with its folder, for its owner alone.
          - By default it is what the environment variable E(SELFHEAL_LEDGER) names, else
            C(selfheal/ledger.sqlite) in the folder that E(XDG_STATE_HOME) names, else
            C(~/.local/state/selfheal/ledger.sqlite).
          - In an execution environment that is thrown away after each job, give it a path that outlives the job.
        type: path
      allow_network:
        description:
          - Allow a file on a file system that machines can share, such as NFS.
          - SQLite's locks do not hold between machines, so two controllers could act at once. Set it only when no other
            machine ever uses the file.
        type: bool
        default: false
"""
