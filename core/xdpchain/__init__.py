# SPDX-License-Identifier: Apache-2.0
"""Chains of XDP programs on one network interface: see what runs, change it atomically, count, try packets.

    from xdpchain import Slot, chain_of, edit, load_component

    firewall = Slot.of(load_component("firewall.o"))
    plan, running = edit("eth0", lambda running: chain_of(running).add(firewall))

These names are the public API, described in docs/api.md; everything else may change. Errors are in
`xdpchain.errors` (base class `XdpChainError`), a playground for tests in `xdpchain.testing`. Each name is
imported on first use, so ``import xdpchain`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdpchain.change.confirm.by_hand import confirm, roll_back
    from xdpchain.change.plan import make_plan
    from xdpchain.editing import apply, apply_all, edit, edit_all, undo
    from xdpchain.linkage.choice import chain_of
    from xdpchain.model.actions import Action, ActionSet
    from xdpchain.model.chain import Chain, Linkage
    from xdpchain.model.interface import Mode, WantedMode
    from xdpchain.model.slot import Slot
    from xdpchain.objects.components import load_component
    from xdpchain.observe.counters import open_counters
    from xdpchain.observe.discover import look, survey
    from xdpchain.trial.run import run_trial

__all__ = [
    "Action",
    "ActionSet",
    "Chain",
    "Linkage",
    "Mode",
    "Slot",
    "WantedMode",
    "apply",
    "apply_all",
    "chain_of",
    "confirm",
    "edit",
    "edit_all",
    "load_component",
    "look",
    "make_plan",
    "open_counters",
    "roll_back",
    "run_trial",
    "survey",
    "undo",
]

_HOMES = {
    "change.confirm.by_hand": ("confirm", "roll_back"),
    "change.plan": ("make_plan",),
    "editing": ("apply", "apply_all", "edit", "edit_all", "undo"),
    "linkage.choice": ("chain_of",),
    "model.actions": ("Action", "ActionSet"),
    "model.chain": ("Chain", "Linkage"),
    "model.interface": ("Mode", "WantedMode"),
    "model.slot": ("Slot",),
    "objects.components": ("load_component",),
    "observe.counters": ("open_counters",),
    "observe.discover": ("look", "survey"),
    "trial.run": ("run_trial",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
