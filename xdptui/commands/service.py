# SPDX-License-Identifier: Apache-2.0
"""``xdptui apply --follow FILE``: a service that applies a spec to each interface when it appears, and again
when it is recreated. Later changes made by others on an interface are left alone.

SIGHUP rereads the spec and applies it everywhere; SIGTERM and SIGINT end the service and leave the chains.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from argparse import Namespace
from functools import partial

from xdpchain.errors import NotFound, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.observe.discover import reuse_sockets
from xdpchain.observe.interface_watch import Presence, names_of
from xdpchain.observe.permissions import require_capabilities
from xdpchain.spec.targets import SpecTarget, namespaces, targets
from xdpchain.trial.packets.own import OwnTraffic
from xdptui.commands.ending import handling
from xdptui.commands.spec_report import Result, report_line
from xdptui.commands.spec_text import reports
from xdptui.commands.targets import carry_out, planned
from xdptui.commands.wanted import Wanted, read_wanted
from xdptui.commands.whatif import trying
from xdptui.outcome import ExitCode, Talk, UsageError, write

__all__ = ["serve"]

FIRST_RETRY, LAST_RETRY = 1.0, 60.0
"""Seconds until a failed interface is retried: doubled each time, up to the last."""

LONG = 3600.0
RESTS, LONGEST_REST = 25, 0.1
"""The pause after a look that found nothing to do: that many times the processor time the look took, and at
most that many seconds. A single new interface is served at once, one in a crowd a tenth of a second later.
"""

Identity = tuple[int, int]


@frozen
class ServiceFailure:
    """An interface that failed: when to retry, and its error as it was told, if it was."""

    identity: Identity
    retry_at: float
    delay: float
    text: str


def serve(options: Namespace, talk: Talk) -> int:
    """Apply until told to stop."""
    for name in ("confirm", "wait", "dry_run", "what_if"):
        if getattr(options, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} and --follow exclude each other", "--follow runs unattended")
    if options.command == "plan":
        raise UsageError("plan does not support --follow", todo="`xdptui plan FILE` compares once")
    if options.file == "-":
        raise UsageError("--follow needs a file", "it reads the spec again on SIGHUP")
    require_capabilities()
    return _Service(options, talk).run()


class _Service:
    def __init__(self, options: Namespace, talk: Talk) -> None:
        self._options = options
        self._talk = talk
        self._wanted = self._read()
        self._done: dict[SpecTarget, Identity] = {}
        self._failed: dict[SpecTarget, ServiceFailure] = {}
        self._missing: frozenset[str] = frozenset()
        self._ending = False
        self._reloading = False
        self._ready = False
        self._presence: Presence | None = None

    def _read(self) -> Wanted:
        options = self._options
        return read_wanted(options.file, options.netns, fresh_maps=options.fresh_maps)

    def run(self) -> int:
        with self._signals():
            while not self._ending:
                if self._reloading:
                    self._reload()
                with Presence(namespaces(self._wanted.spec, self._wanted.netns)) as presence:
                    self._presence = presence
                    self._follow(presence)
                    self._presence = None
        _notify("STOPPING=1")
        return ExitCode.OK

    def _follow(self, presence: Presence) -> None:
        while not (self._ending or self._reloading):
            begun, done = time.thread_time(), len(self._done)
            try:
                with reuse_sockets():
                    self._round(presence)
            except XdpChainError as error:
                self._say_once(error)
            if not self._ready:
                self._ready = True
                _notify("READY=1")
            if len(self._done) <= done:
                time.sleep(min(LONGEST_REST, RESTS * (time.thread_time() - begun)))
            now = time.monotonic()
            presence.wait(min((failure.retry_at - now for failure in self._failed.values()), default=LONG))

    def _round(self, presence: Presence) -> None:
        there = presence.look()
        found, missing = targets(self._wanted.spec, names_of(there), self._wanted.netns)
        self._tell_missing(frozenset(map(str, missing)))
        identities = {(netns, one.name): one.identity for netns, some in there.items() for one in some}
        present = {target: identities[target.netns, target.name] for target in found}
        self._done = {t: i for t, i in self._done.items() if present.get(t) == i}
        self._failed = {t: f for t, f in self._failed.items() if present.get(t) == f.identity}
        for target, identity in present.items():
            if self._ending or self._reloading:
                return
            if target not in self._done and self._is_due(target):
                self._apply(target, identity)

    def _is_due(self, target: SpecTarget) -> bool:
        return target not in self._failed or self._failed[target].retry_at <= time.monotonic()

    def _apply(self, target: SpecTarget, identity: Identity) -> None:
        results = [planned(self._wanted, target, self._talk)]
        attempts = partial(trying, self._options, self._talk, only_plan=False, own_traffic=OwnTraffic())
        carry_out(self._wanted, results, self._talk, attempts, confirm=None, keep_going=True)
        (result,) = results
        if result.error is None:
            self._failed.pop(target, None)
            self._done[target] = identity
            self._say(result)
            return
        before = self._failed.get(target)
        delay = FIRST_RETRY if before is None else min(2 * before.delay, LAST_RETRY)
        # An interface that is gone again is no failure, and won't be due again.
        text = "" if before is None and isinstance(result.error, NotFound) else str(result.error)
        self._failed[target] = ServiceFailure(identity, time.monotonic() + delay, delay, text)
        if text and (before is None or before.text != text):
            self._say(result)

    # Output

    def _say(self, result: Result) -> None:
        if self._talk.json:
            write(json.dumps(report_line(result, time.time())))
            return
        for report in reports([result], dry=False):
            report.say(self._talk)

    def _say_once(self, error: XdpChainError) -> None:
        text = frozenset((str(error),))
        if text != self._missing:
            self._missing = text
            self._talk.failed(error)

    def _tell_missing(self, missing: frozenset[str]) -> None:
        for name in sorted(missing - self._missing):
            self._talk.step(f"{name} is not there yet")
        self._missing = missing

    # Signals

    def _wake(self) -> None:
        if self._presence is not None:
            self._presence.poke()

    def _reload(self) -> None:
        self._reloading = False
        try:
            self._wanted = self._read()
        except XdpChainError as error:  # keep the old spec
            self._talk.failed(error)
            return
        self._done.clear()
        self._failed.clear()

    def _signals(self) -> contextlib.AbstractContextManager[None]:
        def end(*_: object) -> None:
            self._ending = True
            self._wake()

        def reload(*_: object) -> None:
            self._reloading = True
            self._wake()

        return handling({signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: reload})


def _notify(state: str) -> None:
    """Notify systemd if it asked for that (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(state.encode())
