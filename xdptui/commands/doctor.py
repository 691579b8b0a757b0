# SPDX-License-Identifier: Apache-2.0
"""``xdptui doctor``: what is wrong with this machine or an interface, and the fix."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.doctor import Level, examine
from xdptui.outcome import ExitCode, write
from xdptui.render import doctor_text

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Check the machine and one interface, or all in the namespace. Exit code 1 if there are errors."""
    found = examine(options.netns, options.interface)
    if options.json:
        write(json.dumps(doctor_text.document(found), indent=2))
    else:
        write(doctor_text.text(found))
    return ExitCode.REFUSED if any(finding.level is Level.ERROR for finding in found) else ExitCode.OK
