# SPDX-License-Identifier: Apache-2.0
"""Follow packets from inside a static or tailcall chain: while somebody follows, a recording program, linked
from the same parts over the same maps, takes the chain's place, and then the original program comes back. So
a tailcall chain, too, is static meanwhile.

The recording chain says which program it replaces and who follows (`Running.replaces_prog_id`,
`Running.following`). For an edit it is the same chain, and an edit meanwhile ends the following. A killed
follower leaves it behind; it stops recording after some seconds, and `take_back` links the plain chain again.
"""

from __future__ import annotations

import contextlib

from xdpchain.bytecode.classic import Filter
from xdpchain.change.author import current_author
from xdpchain.change.confirm.arming import make_way
from xdpchain.change.swap import swap, took_effect
from xdpchain.errors import Busy, NotFound, RaceLost
from xdpchain.linkage.array_pins import remove_array_pins
from xdpchain.linkage.linkable_slots import shown_sites
from xdpchain.linkage.linked import BuiltChain
from xdpchain.linkage.linkers import CLONING_LINKERS
from xdpchain.linkage.static import StaticLinker
from xdpchain.linkage.tap import STATE, Tap, make_maps
from xdpchain.model.chain import Chain
from xdpchain.model.following import Following
from xdpchain.model.manifest import Author
from xdpchain.model.running import Running
from xdpchain.objects.verdicts import sites_of_linkable
from xdpchain.observe.discover import look
from xdpchain.observe.hook import author_of, manifest_of
from xdpchain.sys import bpf, bpffs

from .hook_watch import HookWatch
from .tapping import Keep, Tapping

__all__ = ["Inside", "take_back", "take_back_left_over"]


class Inside(Tapping):
    """The recording chain of an interface, swapped in (see `Tapping`)."""

    def __init__(
        self, running: Running, filter: Filter, expression: str, lock_timeout: float, keep: Keep
    ) -> None:
        """Swap it in. Raises what `editing.apply` does; nothing is changed then."""
        self._interface = running.interface
        self._lock_timeout = lock_timeout
        with contextlib.ExitStack() as held:
            maps = make_maps(keep.snap)
            for fd in maps.values():
                held.callback(fd.close)
            super().__init__(maps, keep)
            held.callback(super().close)
            mark = Following(current_author(), expression, bpf.map_info(maps[STATE]).id)
            tap = Tap(filter.instructions, filter.needs, maps, mark.encode(), keep.snap, keep.fates)
            with bpffs.lock(lock_timeout):
                now = ready(running)
                chain, hook = now.chain, now.hook
                assert chain is not None
                assert hook is not None
                self._plain = held.enter_context(_program(hook.prog_id, now))
                self._plain_id = hook.prog_id
                self._built = _build(now, chain, tap)
                held.callback(self._built.close)
                self.recording = bpf.prog_info(self._built.program).id
                self._chain = chain
                self.slots = {i: (slot.key, slot.name) for i, slot in enumerate(chain.slots, 1)}
                self.sites = {
                    i: shown_sites(part.unit, sites_of_linkable(part.unit), part.slot.component)
                    for i, part in enumerate(self._built.parts, 1)
                }
                try:
                    self._built.pin()
                    swap(now, self._built.program, chain.mode)
                except BaseException:
                    if took_effect(self._interface, chain.mode, self.recording):
                        self._swap_back()
                    self._built.unpin()
                    raise
            self._watch = HookWatch(self._interface, chain.mode, self.recording)
            self._held = held.pop_all()

    def why_not(self) -> str:
        return self._watch.why_not()

    def close(self) -> None:
        """Restore the plain chain, if the recording one still runs. Raises Busy if another editor holds the
        lock for too long, and what the kernel refuses: the recording chain then stays, but records nothing.
        """
        try:
            with bpffs.lock(self._lock_timeout):
                if took_effect(self._interface, self._chain.mode, self.recording):
                    self._swap_back()
                elif not took_effect(self._interface, self._chain.mode, self._plain_id):
                    remove_array_pins(self._plain_id)
                self._built.unpin()
        finally:
            self._held.close()

    def _swap_back(self) -> None:
        with contextlib.suppress(RaceLost, NotFound):  # somebody else was faster, or the interface is gone
            now = look(self._interface.name, self._interface.netns)
            if now.hook is not None and now.hook.prog_id == self.recording:
                swap(now, self._plain, self._chain.mode)


def ready(running: Running) -> Running:
    """What runs now, if it is the chain of ``running`` and nobody else follows it. Take the lock first.

    Raises RaceLost, Busy.
    """
    interface = running.interface
    now = look(interface.name, interface.netns)
    if now.identity != running.identity or now.chain is None:
        raise RaceLost(f"{interface} no longer runs that chain", author_of(now), "Look at it again")
    make_way(now)
    if now.following is None:
        return now
    if now.following.alive:
        raise Busy(
            f"somebody is already following packets on {interface}",
            f"by {now.following.author}",
            "Stop that first: only one follower per chain is possible",
        )
    return take_back(now)


def take_back(now: Running) -> Running:
    """Replace a recording chain, left by a killed follower, with the plain one, linked again; returns what
    runs then. Take the lock first.
    """
    chain, hook = now.chain, now.hook
    assert chain is not None
    assert hook is not None
    built = _build(now, chain, None)
    try:
        new = bpf.prog_info(built.program).id
        try:
            built.pin()
            swap(now, built.program, chain.mode)
        except BaseException:
            if not took_effect(now.interface, chain.mode, new):
                built.unpin()
            raise
    finally:
        built.close()
    StaticLinker().retire(now)
    return look(now.interface.name, now.interface.netns)


def take_back_left_over(running: Running, *, lock_timeout: float = 10.0) -> Running:
    """`take_back`, if the follower is gone; returns what runs then.

    Raises Busy, RaceLost, and what the linkage and the kernel refuse.
    """
    if running.following is None or running.following.alive:
        return running
    with bpffs.lock(lock_timeout):
        now = look(running.interface.name, running.interface.netns)
        if now.following is None or now.following.alive:
            return now
        return take_back(now)


def _build(now: Running, chain: Chain, tap: Tap | None) -> BuiltChain:
    assert now.hook is not None
    replaces_prog_id = now.identity[1][0]
    if tap is None:
        linker = CLONING_LINKERS[chain.linkage](replaces_prog_id=replaces_prog_id)
    else:
        linker = StaticLinker(tap=tap, replaces_prog_id=replaces_prog_id)
    return linker.build(chain, now, _maker(now.hook.prog_id))


def _maker(program: int) -> Author:
    """The chain's author, who stays its author."""
    carried = manifest_of(program)
    return carried.author if carried else current_author()


def _program(prog_id: int, now: Running) -> bpf.Fd:
    try:
        return bpf.prog_by_id(prog_id)
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"the program on {now.interface} can't be held") from error
