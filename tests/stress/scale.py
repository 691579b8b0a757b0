# SPDX-License-Identifier: Apache-2.0
"""The length of the stress tests: short in every run, full with XDPTUI_SOAK=1; under emulation, shorter in
every run and short with XDPTUI_SOAK=1.
"""

from __future__ import annotations

import os

__all__ = ["LAB", "SOAK", "scaled"]

SOAK = os.environ.get("XDPTUI_SOAK") == "1"
LAB = os.environ.get("XDPTUI_LAB") == "1"


def scaled(short: int, whole: int, lab: int) -> int:
    """One of three numbers, depending on where and how the tests run."""
    if LAB:
        return short if SOAK else lab
    return whole if SOAK else short
