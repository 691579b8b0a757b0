# SPDX-License-Identifier: Apache-2.0
"""``xdptui logs``: what programs print with bpf_printk() and write to their BPF streams."""

from __future__ import annotations

import json
import threading
import time
from argparse import Namespace

from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.logs import Logs, Said
from xdptui.commands import options as values
from xdptui.commands.ending import until_told
from xdptui.outcome import Talk, write
from xdptui.words.log_words import said_document, said_text

__all__ = ["run"]

POLL = 0.05
SEARCH = 1.0
"""Seconds until the running programs are looked up again."""


def run(options: Namespace) -> int:
    """Show lines until interrupted, until the requested number, or until the time is up."""
    count = None if options.count is None else values.amount(options.count, "count")
    timeout = None if options.timeout is None else values.seconds(options.timeout, "timeout", 0.1)
    talk = Talk(options.json, bool(options.verbose))
    running = look(options.interface, options.netns)
    if running.hook is None:
        raise NotFound(f"nothing prints on {running.interface}", "no XDP program runs there")
    chain = running.chain or running.shown
    chosen = None
    if options.slot is not None or options.where:
        chosen = values.Which(options.slot, options.where).single(chain, running.interface)
    stop = threading.Event()
    shown = 0
    with Logs(streams=options.streams) as logs, until_told(stop):
        logs.follow(running, chosen)
        if logs.blind:
            talk.warn(
                "the kernel hides program addresses (kernel.kptr_restrict): what any program prints with "
                "bpf_printk is shown"
            )
        heard = logs.read()
        talk.step(f"listening to what programs print on {running.interface}; ctrl-C stops")
        if logs.no_streams:
            (talk.warn if options.streams else talk.step)(f"bpf_printk only: {logs.no_streams}")
        end = None if timeout is None else time.monotonic() + timeout
        searched = time.monotonic()
        while True:
            for said in heard:
                if chosen is None or said.slot is None or said.slot[0] == chosen:
                    _show(said, options.json)
                    shown += 1
                    if shown == count:
                        return 0
            if stop.wait(POLL) or (end is not None and time.monotonic() >= end):
                break
            if time.monotonic() - searched >= SEARCH:
                running, searched = _again(logs, running, chosen), time.monotonic()
            heard = logs.read()
        if lost := logs.lost:
            talk.warn(f"{lost} more lines were lost")
    return 0


def _again(logs: Logs, running: Running, chosen: int | None) -> Running:
    where = running.interface
    try:
        now = look(where.name, where.netns)
    except XdpChainError:
        return running
    if now.identity != running.identity:
        logs.follow(now, chosen)
    return now


def _show(said: Said, as_json: bool) -> None:
    write(json.dumps(said_document(said), separators=(",", ":")) if as_json else said_text(said))
