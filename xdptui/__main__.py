# SPDX-License-Identifier: Apache-2.0
"""``python -m xdptui``."""

from __future__ import annotations

import sys

from xdptui.cli import main

if __name__ == "__main__":
    sys.exit(main())
