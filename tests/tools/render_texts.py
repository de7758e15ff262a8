# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render each text of a JSON list on stdin as ansible-core renders extra variables; print how many it could render.

It is a program of its own, since ansible-core's loader of plugins changes what its process imports.
"""

from __future__ import annotations

import json
import sys

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template


def main() -> None:
    init_plugin_loader()
    templar = Templar(loader=DataLoader(), variables={})
    rendered = 0
    for text in json.load(sys.stdin):
        try:
            templar.template(trust_as_template(text))
            rendered += 1
        except Exception as error:  # a template can fail in any way; what it did until then is the caller's question
            print(type(error).__name__, file=sys.stderr)
    print(rendered)


if __name__ == "__main__":
    main()
