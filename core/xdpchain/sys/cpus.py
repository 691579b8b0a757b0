# SPDX-License-Identifier: Apache-2.0
"""How many processors the kernel keeps values for."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdpchain.advice import Do, advise
from xdpchain.errors import Unsupported
from xdpchain.sys.bpf import BpfError, cpus_in_a_value

__all__ = ["possible_cpus"]

POSSIBLE = Path("/sys/devices/system/cpu/possible")


@cache
def possible_cpus() -> int:
    """The number of possible CPUs, and so of elements in a per-CPU value. If /sys does not say it, a map is
    used to ask the kernel. Raises Unsupported.
    """
    try:
        ranges = [part.partition("-") for part in POSSIBLE.read_text().split(",")]  # as in 0-3,8
        return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
    except (OSError, ValueError):
        pass
    try:
        return cpus_in_a_value()
    except BpfError as error:
        what = "The number of CPUs can't be determined"
        raise Unsupported(what, "/sys is not mounted", advise(Do.MOUNT_SYSFS), detail=str(error)) from error
