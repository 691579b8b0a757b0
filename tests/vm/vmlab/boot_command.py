# SPDX-License-Identifier: Apache-2.0
"""`boot`: run one command under a stock kernel."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from vmlab import emulator, kernels, packages
from vmlab.errors import LabError
from vmlab.guest import Guest

__all__ = ["boot", "wants_kvm"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wants_kvm() -> bool:
    """Whether the user requested hardware virtualisation with `XDPTUI_LAB_KVM=1`. It is never assumed to
    work.
    """
    return os.environ.get("XDPTUI_LAB_KVM", "") not in ("", "0")


def boot(arguments: list[str]) -> int:
    """Returns the command's exit code."""
    parser = argparse.ArgumentParser(
        prog="boot",
        usage="boot [OPTION...] KERNEL COMMAND [ARGUMENT...]",
        description="Run COMMAND as root, in this folder, on this machine's files, under a stock kernel. "
        "Its output comes out here, its exit code is ours; 125: there is none, and why.",
        epilog="What COMMAND writes is gone when it ends, except in the folder of --out.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=f"{', '.join(kernels.NAMES)}, or suite:NAME")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    parser.add_argument("-i", "--interactive", action="store_true", help="give COMMAND this terminal")
    parser.add_argument("-o", "--out", type=Path, metavar="FOLDER", help="the one folder shared for writing")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-t", "--timeout", type=float, default=1800.0, metavar="SECONDS", help="default 1800")
    parser.add_argument("--cpus", type=int, default=2, help="default 2")
    parser.add_argument("--memory", default="2G", help="default 2G")
    parser.add_argument(
        "--systemd",
        type=Path,
        metavar="SCRIPT",
        help="run SCRIPT, then systemd; COMMAND is its last service",
    )
    parser.add_argument("--console", type=Path, metavar="FILE", help="keep what the kernel said")
    parser.add_argument("--kvm", action="store_true", default=wants_kvm(), help="or XDPTUI_LAB_KVM=1")
    options = parser.parse_args(arguments)
    (name, *more) = kernels.names_of([options.kernel])
    if more:
        raise LabError("boot takes one kernel")
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("which command?")
    if command[0].startswith("-"):
        parser.error(f"options come before KERNEL: {command[0]}")
    environment = dict(item.partition("=")[::2] for item in options.env)
    if wrong := [name for name in environment if not _VARIABLE.fullmatch(name)]:
        parser.error(f"not the name of a variable: {wrong[0]!r}")
    packages.require()
    if options.out:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"can't make {options.out}: {error.strerror}") from error
    guest = Guest(
        kernel=kernels.fetch(name),
        emulator=emulator.find(),
        output_folder=options.out.absolute() if options.out else None,
        environment=environment,
        processors=options.cpus,
        memory=options.memory,
        kvm=options.kvm,
        before_systemd=options.systemd.read_text() if options.systemd else None,
        # The person at the terminal decides when it is over.
        timeout=float("inf") if options.interactive else options.timeout,
        console=options.console,
    )
    return guest.run(command, interactive=options.interactive).exit_code
