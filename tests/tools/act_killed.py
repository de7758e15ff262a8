# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one change of a place and SIGKILL itself at the nth checkpoint: `act_killed.py N JSON-of-options`.

Prints the checkpoints that it passes, one a line.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from ansible_collections.selfheal.delivery.plugins.module_utils._act import options


class Killer:
    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self, step: str) -> None:
        print(step, flush=True)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    print(options.change(json.loads(sys.argv[2]), dry=False, checkpoint=Killer(int(sys.argv[1]))).current)
