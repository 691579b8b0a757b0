# SPDX-License-Identifier: Apache-2.0
"""``python -m xdptui.demo``: a playground with traffic, a chain of three sample programs, and xdptui running
on it.

Everything is removed on exit, on a signal, and by a guard process if this one is killed.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from xdpchain.errors import XdpChainError
from xdpchain.testing import names, playground
from xdpchain.testing.errors import PlaygroundError
from xdpchain.testing.playground import Playground
from xdpchain.testing.traffic import add_bounds

__all__ = ["main"]

SAMPLES = Path(__file__).parents[2] / "build" / "samples"
CHAIN = ("firewall", "ratelimit", "monitor")

# What the firewall blocks from the start: (port, IP protocol): telnet and unsolicited UDP.
BLOCKED = ((23, 6), (9999, 17))

XDPTUI = (sys.executable, "-m", "xdptui")
DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m xdptui.demo", description=__doc__.split("\n\n")[0])
    add_bounds(parser)
    parser.add_argument("--no-tui", action="store_true", help="print the chain's status and exit")
    parser.add_argument("--sweep", action="store_true", help="only clean up after killed demos, then exit")
    options = parser.parse_args(arguments)
    try:
        with _signals_as_exceptions():
            _sweep()
            return 0 if options.sweep else _demo(options)
    except XdpChainError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except subprocess.CalledProcessError as error:
        return error.returncode  # the command's own output said why
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _demo(options: argparse.Namespace) -> int:
    objects = [SAMPLES / f"{name}.o" for name in CHAIN]
    if missing := [str(path) for path in objects if not path.exists()]:
        raise PlaygroundError("Can't load the samples", f"{missing[0]} is missing", "Build them: make bpf")
    with ExitStack() as stack:
        stack.enter_context(_guard())
        made = Playground()
        stack.callback(_tear_down, made)
        made.__enter__()
        where = ["--netns", made.netns]

        subprocess.run([*XDPTUI, "load", made.ifname, *map(str, objects), *where], check=True)
        _block_ports(made)
        bounds = ["--rate", str(options.rate), "--seconds", str(options.seconds)]
        traffic = ["-m", "xdpchain.testing.traffic", made.peer_netns, made.peer_ifname, *bounds]
        stack.enter_context(_running([sys.executable, *traffic], background=True))
        print(f"Traffic: {options.rate} packets/s for {options.seconds} s", flush=True)

        if options.no_tui:
            return subprocess.run([*XDPTUI, "status", *where], check=False).returncode
        with _running([*XDPTUI, *where]) as tui:
            return tui.wait()


def _tear_down(made: Playground) -> None:
    _ignore_signals()
    _unload(made.netns)
    made.close()


def _sweep() -> None:
    left = playground.leftovers()
    for name in left:
        _unload(name)
    for name in left:
        playground.remove(name)
        print(f"Removed {name}: its owner is gone")


def _unload(namespace: str) -> None:
    """Unload with xdptui, because removing a namespace leaves a freplace chain's pins behind."""
    owned = names.parse(namespace)
    if owned is None or owned.side != "near" or not owned.there:
        return
    subprocess.run(
        [*XDPTUI, "unload", "xdp0", "--all", "--netns", namespace],
        stdin=subprocess.DEVNULL,
        capture_output=True,  # nothing loaded, or not by us: the namespace takes it along
        check=False,
    )


def _block_ports(made: Playground) -> None:
    """Put BLOCKED into the firewall's map as an operator would: with bpftool."""
    number = _map_of_chain(made, "blocked")
    for port, protocol in BLOCKED:
        key = [*port.to_bytes(2, sys.byteorder), protocol, 0]
        update = ["map", "update", "id", str(number), "key", *map(str, key), "value", "1"]
        subprocess.run(["bpftool", *update], check=True)


def _map_of_chain(made: Playground, name: str) -> int:
    status = _json([*XDPTUI, "status", made.ifname, "--json", "--netns", made.netns])
    interface = status["interfaces"][0]
    programs = [interface["dispatcher"], *interface["slots"]]
    for program in programs:
        if program is None or program["id"] is None:
            continue
        for map_id in _json(["bpftool", "-j", "prog", "show", "id", str(program["id"])]).get("map_ids", ()):
            if _json(["bpftool", "-j", "map", "show", "id", str(map_id)]).get("name") == name:
                return int(map_id)
    raise PlaygroundError(f"Can't find the map {name!r}", "no program of the chain uses it")


def _json(command: Sequence[str]) -> Any:
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@contextmanager
def _running(command: Sequence[str], *, background: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A child process, ended on exit, and by the kernel if we are killed.

    In the background it has its own process group: a terminal's ctrl-C is for the foreground.
    """
    process = subprocess.Popen(
        [*DIES_WITH_US, *command],
        stdin=subprocess.DEVNULL if background else None,
        process_group=0 if background else None,
    )
    try:
        yield process
    finally:
        _end(process)


@contextmanager
def _guard() -> Iterator[None]:
    """A process that notices when we are gone, for whatever reason, and cleans up."""
    sweep = [sys.executable, "-m", "xdptui.demo", "--sweep"]
    guard = subprocess.Popen(
        ["sh", "-c", 'cat >/dev/null; exec "$@"', "guard", *sweep],
        stdin=subprocess.PIPE,  # nothing is written to it: it closes when we end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        _end(guard)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    def leave(signum: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signum)

    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, leave)
    yield


def _ignore_signals() -> None:
    """Once cleanup has begun, an impatient second ctrl-C must not interrupt it."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
