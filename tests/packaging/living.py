# SPDX-License-Identifier: Apache-2.0
"""What an installed xdptui must do, however it was installed; and clean Debians to install it in."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.packaging.conftest import ROOT, run

__all__ = ["Tree", "clean_debian", "mounted", "serve", "use"]

PATIENCE = 30.0


def use(command: Sequence[str], interface: str, samples: str) -> None:
    """Load, look, let the guardian roll back a change, unload."""

    def status() -> Any:
        return json.loads(run(*command, "status", interface, "--json"))["interfaces"][0]

    def slots() -> list[str]:
        return [slot["name"] for slot in status()["slots"]]

    run(*command, "load", interface, f"{samples}/firewall.o")
    assert slots() == ["xdp_firewall"]
    run(*command, "unload", interface, "--all", "--confirm", "3")
    until(lambda: not status()["armed"], "the change is rolled back")
    assert slots() == ["xdp_firewall"]
    assert status()["settled"]["outcome"] == "rolled-back"
    run(*command, "unload", interface, "--all")
    assert status()["programs"] == []


def serve(command: Sequence[str], interface: str, spec: str) -> None:
    """The service, with a spec whose one slot is xdp_firewall: the chain runs, and outlives the service."""

    def slots() -> list[str]:
        told = json.loads(run(*command, "status", interface, "--json"))["interfaces"][0]
        return [slot["name"] for slot in told["slots"]]

    with subprocess.Popen([*command, "apply", "--follow", spec]) as service:
        try:
            until(lambda: slots() == ["xdp_firewall"], "the service makes the chain")
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=PATIENCE) == 0
        finally:
            service.kill()
    assert slots() == ["xdp_firewall"]
    run(*command, "unload", interface, "--all")


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@dataclass(frozen=True)
class Tree:
    """A Debian in a folder."""

    root: Path

    def __call__(self, *words: str) -> str:
        return run(*self.inside(), *words)

    def inside(self, netns: str = "") -> tuple[str, ...]:
        """The prefix for a command there; ``netns``: in a network namespace of this machine."""
        enter = ("nsenter", f"--net=/run/netns/{netns}") if netns else ()
        home = ("env", "HOME=/root", "LIBXDP_BPFFS=/sys/fs/bpf", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        return (*enter, "chroot", str(self.root), *home)

    def bring(self, *files: Path) -> None:
        """Copy into its /tmp."""
        run("cp", "-r", *map(str, files), str(self.root / "tmp"))


def clean_debian(suite: str, folder: Path, *packages: str) -> Tree:
    """With python3 and libbpf1, from the archive named in this machine's sources."""
    sys.path.insert(0, str(ROOT / "tests" / "vm"))
    from vmlab.archive import mirror

    chosen = ",".join(("python3", "libbpf1", *packages))
    # A lagging mirror has yesterday's lists; their signatures still count.
    lists = "--aptopt=Acquire::Check-Valid-Until false"
    run(
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={chosen}",
        lists,
        suite,
        str(folder),
        mirror(),
    )
    return Tree(folder)


@contextmanager
def mounted(tree: Tree, bpffs: Path) -> Iterator[Tree]:
    """With the kernel's filesystems mounted."""
    with ExitStack() as stack:
        for path, how in (
            ("proc", ("-t", "proc", "proc")),
            ("sys", ("-t", "sysfs", "sysfs")),
            ("sys/fs/bpf", ("--bind", str(bpffs))),
        ):
            run("mount", *how, str(tree.root / path))
            stack.callback(run, "umount", "--lazy", str(tree.root / path))
        yield tree
