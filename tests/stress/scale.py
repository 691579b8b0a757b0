# SPDX-License-Identifier: Apache-2.0
"""How long the stress tests take: short in every run, whole with XDPTUI_SOAK=1; under emulation, shorter in
every run and short with XDPTUI_SOAK=1.
"""

from __future__ import annotations

import os

__all__ = ["LAB", "SOAK", "scaled"]

SOAK = os.environ.get("XDPTUI_SOAK") == "1"
LAB = os.environ.get("XDPTUI_LAB") == "1"


def scaled(short: int, whole: int, lab: int) -> int:
    """One of three numbers, by where and how the tests run."""
    if LAB:
        return short if SOAK else lab
    return whole if SOAK else short
