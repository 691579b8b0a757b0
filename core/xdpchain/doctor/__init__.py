# SPDX-License-Identifier: Apache-2.0
"""What is wrong with this machine or an interface, as far as XDP chains go; why it matters; and the fix.

Everything is tried or read, nothing is concluded from a version, and nothing is changed.
"""

from __future__ import annotations

from .examine import examine
from .finding import Finding, Level, Topic

__all__ = ["Finding", "Level", "Topic", "examine"]
