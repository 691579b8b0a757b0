# SPDX-License-Identifier: Apache-2.0
"""Check the other tools on this machine, and how well libxdp's version matches the chains."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from xdpchain.linkage.dispatcher.installed import EMITTED, emitted_version, installed_version
from xdpchain.model.commands import Commands
from xdpchain.model.running import Running

from .finding import Finding, Topic, error, info, ok, warn

__all__ = ["compare_dispatcher", "examine_tools"]

PLACES = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
TIMEOUT = 2.0
TOOLS = (
    (
        "bpftool",
        ("version",),
        "A slot's code can't be listed without it, and other tools' advice often mentions it",
    ),
    ("ip", ("-V",), "Many of the commands recommended here use ip (package iproute2)"),
    ("ethtool", ("--version",), "It changes offloads and queues"),
    ("xdp-loader", (), "libxdp's own loader: not needed, but gives a second view of freplace chains"),
)


def examine_tools() -> tuple[Finding, ...]:
    """The installed tools. None of them is needed to edit chains."""
    return (*(_tool(*tool) for tool in TOOLS), _libxdp())


def _tool(name: str, version: tuple[str, ...], why: str) -> Finding:
    path = shutil.which(name) or shutil.which(name, path=PLACES)
    check = f"tools.{name}"
    if path is None:
        package = {"ip": "iproute2", "xdp-loader": "xdp-tools"}.get(name, name)
        return info(Topic.TOOLS, check, f"{name} is not installed", why, f"apt install {package}")
    told = f", {said}" if version and (said := _says(path, version)) else ""
    return ok(Topic.TOOLS, check, f"{path}{told}")


def _says(path: str, arguments: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = done.stdout.split("\n")
    return lines[0].strip() if done.returncode == 0 else ""


def _libxdp() -> Finding:
    check, version = "tools.libxdp", installed_version()
    if version is None:
        what = f"libxdp is not installed; freplace chains use its dispatcher version {emitted_version()}"
        return info(Topic.TOOLS, check, what, "It is not needed to edit chains")
    if version in EMITTED:
        return ok(Topic.TOOLS, check, f"libxdp uses dispatcher version {version}, like xdptui")
    return warn(
        Topic.TOOLS, check, f"libxdp uses dispatcher version {version}, which xdptui does not support",
        f"Its tools can at best show xdptui's chains (version {emitted_version()}), not change them",
        "Install libxdp 1.3 or later",
    )  # fmt: skip


def compare_dispatcher(running: Running, installed: int | None, commands: Commands) -> Iterator[Finding]:
    """Whether the installed libxdp can change the running dispatcher: it can if the versions are equal."""
    if not running.linkage_facts.libxdp or running.dispatcher is None or installed is None:
        return
    version, name = running.dispatcher.version, running.interface.name
    check, topic = "interface.libxdp", Topic.INTERFACE
    if not version:
        return  # running.note says what is wrong
    if version == installed:
        yield ok(topic, check, f"its dispatcher has version {version}, like the installed libxdp")
        return
    fix = "Install the libxdp version that created the chain"
    if running.chain is not None and installed in EMITTED:
        options = ("--linkage", "freplace", "--dispatcher-version", str(installed))
        fix = commands.xdptui("relink", name, options=options)
    what = f"its dispatcher has version {version}, the installed libxdp uses {installed}"
    if version > installed:
        why = "xdp-loader fails on this interface, even with `unload --all` (EOPNOTSUPP)"
        yield error(topic, check, what, why, fix)
    else:
        why = "xdp-loader can show it and unload all of it, but can't add or remove one program (EBUSY)"
        yield warn(topic, check, what, why, fix)
