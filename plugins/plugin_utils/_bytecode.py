# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions import, loaded from the bytecode that Python keeps of every other library.

ansible-core's own loader of collections compiles each module anew in each process that imports it. Between an alert
and the way back that takes longer than asking everybody who has to be asked.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, ModuleType
from typing import Optional, Sequence

_OURS = "ansible_collections.selfheal.delivery.plugins."
_CORES = "_AnsibleCollectionFinder"


class _Loader(SourceFileLoader):
    """Python's own, which reads, checks and writes __pycache__; nothing is kept where that may not be written."""

    def get_code(self, fullname: str) -> Optional[CodeType]:
        try:
            return super().get_code(fullname)
        except (EOFError, ImportError, TypeError, ValueError):
            # Python checks what bytecode it is of, and not whether a full disk cut it short
            code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
            return code


class _Kept(MetaPathFinder):
    """Finds this collection's modules where ansible-core's loader would, and leaves folders and all others to that."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if not fullname.startswith(_OURS):
            return None
        for folder in path or ():
            file = os.path.join(folder, f"{fullname.rpartition('.')[2]}.py")
            if os.path.isfile(file):
                return spec_from_file_location(fullname, file, loader=_Loader(fullname, file))
        return None


def keep_bytecode() -> None:
    """From now on, in this process and those that it forks. Call it before what is to be kept is imported.

    Where ansible-core's loader is not found, nothing is kept, and all else is as it was.
    """
    loaders = [type(finder).__name__ for finder in sys.meta_path]
    if _CORES in loaders and _Kept.__name__ not in loaders:
        sys.meta_path.insert(loaders.index(_CORES), _Kept())
        # Ansible itself is loaded, and will not be garbage: it need not be looked through while more is loaded
        gc.freeze()
