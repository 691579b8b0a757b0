# SPDX-License-Identifier: Apache-2.0
"""Check whether a component fits an interface, before anything is loaded. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from xdpchain.advice import SINGLE_BUFFER_MTU
from xdpchain.frozen import frozen
from xdpchain.model.component import Component
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running

__all__ = ["Finding", "check_component"]

Level = Literal["ok", "warn", "error"]


@frozen
class Finding:
    """One check's outcome; ``todo`` is empty if there is nothing to do."""

    level: Level
    text: str
    todo: str = ""


def check_component(component: Component, running: Running, mode: Mode | None = None) -> tuple[Finding, ...]:
    """Check the component against the interface's mode, driver features and MTU.

    ``mode`` is the requested mode; None means the running chain's, or native.
    """
    wanted = mode or (running.chain.mode if running.chain else Mode.NATIVE)
    return (
        *_mode(running, wanted),
        *_fragments(component, running, wanted),
        *_company(component, running),
    )


def _mode(running: Running, wanted: Mode) -> Iterator[Finding]:
    device = running.device
    driver = device.driver or "the device"
    if running.chain is not None and running.chain.mode is not wanted:
        yield Finding(
            "error",
            f"{wanted} mode was requested, but the chain runs in {running.chain.mode} mode",
            f"Keep {running.chain.mode} mode, or move the chain first",
        )
    elif wanted is Mode.GENERIC:
        yield Finding(
            "warn", "generic mode: slower, because the kernel first builds a socket buffer for each packet"
        )
    elif device.features is None:
        yield Finding("ok", f"native mode requested; this kernel can't tell whether {driver} supports it")
    elif "basic" in device.features:
        yield Finding("ok", f"{driver} has native XDP")
    else:
        yield Finding("error", f"{driver} has no native XDP", "Choose generic mode if it is fast enough")


def _fragments(component: Component, running: Running, wanted: Mode) -> Iterator[Finding]:
    device = running.device
    others = running.chain.slots if running.chain else ()
    whole = component.frags and all(slot.component.frags for slot in others)
    if whole and device.features is not None and "rx-sg" not in device.features and wanted is Mode.NATIVE:
        whole = False
        yield Finding("warn", f"{device.driver or 'the driver'} does not support multi-buffer packets")
    if device.mtu <= SINGLE_BUFFER_MTU or wanted is Mode.GENERIC:
        yield Finding("ok", f"MTU {device.mtu} fits in one buffer")
    elif whole:
        yield Finding("ok", f"MTU {device.mtu} needs multi-buffer support, and the whole chain has it")
    else:
        lacking = [s.name for s in others if not s.component.frags]
        if not component.frags:
            lacking.append(component.name)
        whose = f" ({', '.join(lacking)} without it)" if lacking else ""
        yield Finding(
            "error",
            f"MTU {device.mtu} needs multi-buffer support; this chain lacks it{whose}",
            f"Lower the MTU to {SINGLE_BUFFER_MTU}, or build the programs with section xdp.frags",
        )


def _company(component: Component, running: Running) -> Iterator[Finding]:
    others = running.chain.slots if running.chain else ()
    if others and all(s.component.frags for s in others) and not component.frags:
        yield Finding("warn", f"{component.name} has no multi-buffer support: the whole chain loses it")
    for slot in others:
        same = component.object and slot.component.object
        if same and slot.name == component.name and component.object == slot.component.object:
            yield Finding("warn", f"slot {others.index(slot)} already runs the same program")
