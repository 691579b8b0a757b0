# SPDX-License-Identifier: Apache-2.0
"""Check this machine and its interfaces for XDP chains: what is wrong, why it matters, and the fix.

Everything is tried or read, nothing is inferred from a version, and nothing is changed.
"""

from __future__ import annotations

from .examine import examine
from .finding import Finding, Level, Topic

__all__ = ["Finding", "Level", "Topic", "examine"]
