# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-test calls get-pip.py, without the download: pip comes from Python's own ensurepip.

It is called as `get-pip.py [options of pip install] pip==VERSION …`, with two options that only get-pip.py knows.
"""

import subprocess
import sys

if __name__ == "__main__":
    arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
    for command in (["ensurepip"], ["pip", "install", *arguments]):
        subprocess.check_call([sys.executable, "-m", *command])
