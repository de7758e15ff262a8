# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wished of a place, in the same words for every backend."""

from __future__ import annotations


class ModuleDocFragment:
    # what deploys and promotes; its modules have an option state and extend BACK too
    DOCUMENTATION = r"""
options:
  release:
    description:
      - The id of the release, one version of what is deployed. 1 to 128 letters, digits and C(. _ + ~ -), with a letter
        or a digit first.
      - Required for O(state=deployed) and O(state=promoted).
      - With O(state=known_good), the release that has to be left, even if it is known good. Where O(to) is given too
        and another release runs, nothing is done.
    type: str
  version:
    description: The version as people say it. Defaults to O(release).
    type: str
  by:
    description: Who deploys. Defaults to the user that the module runs as, or who became that user by C(sudo).
    type: str
  rollback:
    description:
      - Whether O(release) may be rolled back, stored with it. A V(blocked) release, such as one with a migration that
        cannot be undone, is only left by the O(undo) of the rollout that brought it.
      - Defaults to what is stored, and to V(allowed) for a new release.
      - A release can say so itself. On a machine, by a file C(.rollback-blocked) in its content. In a cluster, by the
        annotation C(selfheal.delivery/rollback=blocked) of the pod template or of the workload.
    type: str
    choices: [allowed, blocked]
  keep:
    description:
      - How many releases O(state=promoted) keeps. The current release, the last known good ones and O(before) are kept
        in any case.
    type: int
    default: 5
  before:
    description: What ran here before the rollout, by its intent. Kept with the change.
    type: str
"""

    # what goes back, with or without an option state
    BACK = r"""
options:
  to:
    description:
      - The release to go back to. It must be known good here and not bad; with O(undo=true) it is enough that it is
        here and complete.
      - Without O(rollout) and O(release) it is a person's wish, and a known good current release is left for it too.
    type: str
  mark_bad:
    description: When going back, marks the release that is left as bad, with this reason. It is not gone back to.
    type: str
  undo:
    description:
      - This is the undo of O(rollout), which did not finish. Only a release that this rollout brought here, or the
        one that O(release) names, is left.
    type: bool
    default: false
"""
