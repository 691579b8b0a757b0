# SPDX-License-Identifier: Apache-2.0
"""``xdptui verdicts``: what the programs of an object file can return, and which lines decide it. Needs
neither root nor a kernel.
"""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.errors import InvalidInput
from xdpchain.objects.components import programs_of
from xdpchain.objects.verdicts import verdicts_of
from xdptui.outcome import write
from xdptui.render.verdicts_text import verdicts_document, verdicts_text

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show all XDP programs of the object, or those named."""
    source = programs_of(options.object)
    if options.names:
        programs = [source.program(name) for name in options.names]
    else:
        programs = list(source.xdp_programs())
        if not programs:
            raise InvalidInput(
                f"{options.object} has no XDP program",
                "it has no program in an xdp section, and none with a struct xdp_md argument",
                "Name one of its programs with -n",
            )
    found = [verdicts_of(source.data, program.name) for program in programs]
    if options.json:
        write(json.dumps(verdicts_document(found), indent=2))
    else:
        write("\n\n".join(verdicts_text(verdicts) for verdicts in found))
    return 0
