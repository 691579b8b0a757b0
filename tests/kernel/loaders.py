# SPDX-License-Identifier: Apache-2.0
"""Other tools that load XDP programs, run on a playground through its namespace's descriptor.

`ip netns exec` would give them a fresh /sys without a BPF filesystem, so they enter only the network
namespace.
"""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from xdpchain.testing.playground import Playground

__all__ = ["attach_pinned", "inside", "pinned_program", "xdp_loader"]

BPFFS = Path("/sys/fs/bpf")


def inside(playground: Playground, *command: str | Path) -> str:
    """Run a command in the namespace of the interface under test; returns its output. Fails with its error
    output."""
    entered = ["nsenter", f"--net=/run/netns/{playground.netns}", *map(str, command)]
    done = subprocess.run(entered, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def xdp_loader(playground: Playground, verb: str, *arguments: str | Path, link: int = 0) -> str:
    """``xdp-loader VERB IFNAME ARGUMENT...``; options may be among the arguments."""
    return inside(playground, "xdp-loader", verb, playground.links[link].ifname, *arguments)


@contextlib.contextmanager
def pinned_program(path: Path) -> Iterator[Path]:
    """The first program of an object file, loaded by bpftool as an XDP program, and pinned meanwhile."""
    pin = BPFFS / f"xdptui-test-{uuid.uuid4().hex[:12]}"
    command = ["bpftool", "prog", "load", str(path), str(pin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    try:
        yield pin
    finally:
        pin.unlink()


def attach_pinned(playground: Playground, pin: Path, *, link: int = 0, mode: str = "xdpdrv") -> None:
    """Attach a pinned program to an interface, as a tool would that knows nothing about dispatchers."""
    inside(playground, "ip", "link", "set", "dev", playground.links[link].ifname, mode, "pinned", pin)
