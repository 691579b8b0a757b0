# SPDX-License-Identifier: Apache-2.0
"""``xdptui features``: what the drivers and this machine support."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.linkage.probe import default_linkage, probe_tailcall
from xdpchain.observe.discover import look, survey
from xdpchain.observe.permissions import missing_capabilities
from xdptui.outcome import write
from xdptui.render import features_text as text

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show one interface or all in the namespace, and the machine."""
    if options.interface is None:
        devices = [running.device for running in survey(options.netns)]
    else:
        devices = [look(options.interface, options.netns).device]
    linkage, why = default_linkage()
    tailcall = probe_tailcall()
    missing = missing_capabilities()
    if options.json:
        document = {
            "interfaces": [text.device_document(device) for device in devices],
            "machine": text.machine_document((linkage.value, why), tailcall, missing),
        }
        write(json.dumps(document, indent=2))
    else:
        parts = [text.device_text(device) for device in devices]
        write("\n".join([*parts, text.machine_text((linkage.value, why), tailcall, missing)]))
    return 0
