# SPDX-License-Identifier: Apache-2.0
"""``xdptui export``: counters for Prometheus, over HTTP or once to standard output."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import threading
from argparse import Namespace
from typing import TYPE_CHECKING

from xdpchain.errors import Busy, InvalidInput, PermissionDenied, XdpChainError
from xdpchain.observe.discover import look, survey
from xdptui.commands.ending import until_told
from xdptui.outcome import Talk, write

if TYPE_CHECKING:
    from xdptui.export.collector import ChainCollector

__all__ = ["address", "run"]

DEFAULT = "127.0.0.1:9435"


def run(options: Namespace) -> int:
    """Serve scrapes until interrupted."""
    from xdptui.export.collector import ChainCollector, MetricSource
    from xdptui.export.exposition import Exposition
    from xdptui.export.lost_packets import LostPackets
    from xdptui.export.map_values import ChosenMap, MapValues
    from xdptui.export.run_times import ChainTimes

    where, port = address(options.listen)
    chosen = [ChosenMap.parse(text) for text in options.maps or ()]
    talk = Talk(options.json, bool(options.verbose))
    if options.interfaces:  # raises NotFound now: later they may come and go
        runnings = tuple(look(name, options.netns) for name in options.interfaces)
    else:
        runnings = survey(options.netns)
    with contextlib.ExitStack() as held:
        sources: list[MetricSource] = []
        if options.time:
            sources.append(held.enter_context(ChainTimes()))
        if options.events:
            sources.append(held.enter_context(LostPackets(options.netns)))
        if chosen:
            maps = held.enter_context(MapValues(chosen))
            for chosen_map in maps.absent(runnings):
                talk.warn(f"no slot has a map {chosen_map} now; it will be exported once one does")
            sources.append(maps)
        collector = ChainCollector(
            options.netns, options.interfaces, trace=options.trace, sites=options.sites, sources=sources
        )
        held.callback(collector.close)
        if options.once:
            text = Exposition().text(collector.collect())
            if collector.trouble:
                raise XdpChainError("The kernel can't be read", collector.trouble)
            write(text.rstrip("\n"), verbatim=True)
            return 0
        _serve(collector, where, port, talk)
    return 0


def address(text: str) -> tuple[str, int]:
    """Host and port from ``HOST:PORT``, ``[IPV6]:PORT`` or ``PORT`` (localhost only). Raises InvalidInput."""
    host, colon, port = text.rpartition(":")
    wrong = InvalidInput(
        f"{text!r} is not an address to listen on", todo=f"Write HOST:PORT, such as {DEFAULT}"
    )
    if not (port.isascii() and port.isdecimal() and 0 <= int(port) < 1 << 16):
        raise wrong
    if not colon:
        return "127.0.0.1", int(port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise wrong from None
    elif ":" in host or not host:
        raise wrong
    return host, int(port)


def _serve(collector: ChainCollector, host: str, port: int, talk: Talk) -> None:
    from xdptui.export.exposition import make_app
    from xdptui.export.server import ScrapeServer

    stop = threading.Event()
    with until_told(stop):
        try:
            server = ScrapeServer(host, port, make_app(collector.collect))
        except OSError as error:
            raise _refused(error, host, port) from error
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            shown = f"[{host}]" if ":" in host else host
            write(f"http://{shown}:{server.server_port}/metrics (ctrl-C stops)")
            talk.step("reading the kernel once per scrape")
            stop.wait()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _refused(error: OSError, host: str, port: int) -> XdpChainError:
    what = f"{host}:{port} can't be used for listening"
    if isinstance(error, socket.gaierror):
        return InvalidInput(what, error.strerror or str(error), "Give an address of this machine")
    why = os.strerror(error.errno or 0)
    if error.errno == errno.EADDRINUSE:
        return Busy(
            what, f"another program already listens there ({why})", "Choose another port with --listen"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidInput(what, f"no interface has this address ({why})", "Give an address of this machine")
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(what, why, "Choose a port from 1024")
    return XdpChainError(what, why)
