# SPDX-License-Identifier: Apache-2.0
"""``xdptui save IF...``: what runs, as a spec."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from fnmatch import fnmatchcase

from xdpchain.errors import NotFound, NotOurs
from xdpchain.maps.filling import with_contents
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface
from xdpchain.model.running import Running
from xdpchain.observe.discover import look, survey
from xdpchain.observe.permissions import require_reading
from xdpchain.spec.files import STDIN
from xdpchain.spec.saving import saved, write_spec
from xdpchain.spec.values import is_glob
from xdptui.outcome import Talk, write

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Write a spec of what some interfaces run."""
    talk = Talk(options.json, bool(options.verbose))
    runnings, warnings = _found(options.interfaces, options.netns)
    output = None if options.output == STDIN else options.output
    chains = [(running.interface, _chain(running)) for running in runnings]
    if options.maps:
        chains, left_out = _with_contents(chains)
        warnings += left_out
    made = saved(chains, objects=options.objects, beside=output)
    warnings += made.warnings
    warnings += [
        f"a change on {running.interface} is pending: this is its chain"
        for running in runnings
        if running.pending is not None
    ]
    if output is not None:
        write_spec(made, output, replace=options.force)
    for warning in warnings:
        talk.warn(warning)
    if options.json:
        document = {
            "path": output,
            "interfaces": [
                {"interface": interface.name, "netns": interface.netns} for interface, _ in chains
            ],
            "objects": list(made.files),
            "warnings": warnings,
            "spec": made.text,
        }
        write(json.dumps(document, indent=2))
    elif output is None:
        write(made.text.rstrip("\n"), verbatim=True)
    else:
        names = ", ".join(str(interface) for interface, _ in chains)
        write(f"{output}: what {names} run{'s' * (len(chains) == 1)}")
        for path in made.files:
            write(f"  object file {path}")
    return 0


def _found(wanted: Sequence[str], netns: str | None) -> tuple[list[Running], list[str]]:
    """The interfaces meant, without duplicates; and which matches of a glob are left out, and why."""
    found: dict[int, Running] = {}
    warnings: list[str] = []
    everything = survey(netns) if any(is_glob(name) for name in wanted) else ()
    for name in wanted:
        if not is_glob(name):
            running = look(name, netns)
            found[running.interface.ifindex] = running
            continue
        matching = [running for running in everything if fnmatchcase(running.interface.name, name)]
        if not matching:
            raise NotFound(f"no interface matches {name!r}", todo="`xdptui status` lists them")
        for running in matching:
            if running.chain is not None:
                found.setdefault(running.interface.ifindex, running)
            elif running.hooks:
                warnings.append(f"{running.interface} is left out: {running.note}")
    if not found:
        raise NotFound(
            "there is nothing to save",
            f"no interface that {', '.join(wanted)} matches runs a chain",
            "Name an interface explicitly to save it as running nothing",
        )
    return list(found.values()), warnings


def _with_contents(
    chains: Sequence[tuple[Interface, Chain | None]],
) -> tuple[list[tuple[Interface, Chain | None]], list[str]]:
    """The same with the contents of their maps; and which maps are left out."""
    found: list[tuple[Interface, Chain | None]] = []
    left_out: list[str] = []
    for where, chain in chains:
        if chain is not None:
            chain, without = with_contents(chain, where.netns)
            left_out += (f"{where}: not saved: {reason}" for reason in without)
        found.append((where, chain))
    return found, left_out


def _chain(running: Running) -> Chain | None:
    if running.editable:
        return running.chain
    require_reading(f"what {running.interface} runs")  # what can't be read looks like somebody else's
    hook = running.hooks[0]
    raise NotOurs(
        f"{running.interface} runs program {hook.name} (id {hook.prog_id}), which can't be saved",
        running.note,
        "A spec contains chains that xdptui can edit",
    )
