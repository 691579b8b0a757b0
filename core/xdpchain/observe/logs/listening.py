# SPDX-License-Identifier: Apache-2.0
"""Everything that an interface's programs print, from wherever they print it to."""

from __future__ import annotations

import contextlib

from xdpchain.closing import Closing
from xdpchain.model.running import Running

from .printk import Printk
from .said import Said
from .streams import Streams

__all__ = ["Logs"]


class Logs(Closing):
    """Listens until closed. Only programs given to ``follow`` are reported."""

    def __init__(self, *, streams: bool | None = None) -> None:
        """``streams``: whether to read BPF streams, which takes the lines away from other readers; None:
        those of chains of ours. Raises PermissionDenied, Unsupported (no such tracepoint: kernel 5.9),
        KernelRefused.
        """
        self._wanted = streams
        self._left = ""
        with contextlib.ExitStack() as held:
            self._printk = held.enter_context(Printk())
            self._streams = held.enter_context(Streams())
            self._held = held.pop_all()

    def follow(self, running: Running, slot: int | None = None) -> None:
        """Report what an interface's programs print from now on; only the streams of that slot, if one is
        named. Raises BpfError.
        """
        self._printk.follow(running)
        wanted = running.chain is not None if self._wanted is None else self._wanted
        self._left = "" if wanted else "BPF streams are left to other readers"
        if wanted:
            self._streams.follow(running, slot)
        else:
            self._streams.close()

    @property
    def blind(self) -> bool:
        """Whether the kernel hides program addresses, so that who printed by bpf_printk is not known."""
        return self._printk.blind

    @property
    def lost(self) -> int:
        """The number of lines by bpf_printk that were lost because the buffer was full."""
        return self._printk.lost

    @property
    def no_streams(self) -> str:
        """Why BPF streams are not read; empty: they are. Known after the first `read`."""
        return self._left or self._streams.why_not

    def read(self) -> list[Said]:
        """The lines printed since the last call, oldest first; those printed before the first come first."""
        return sorted(
            self._streams.read() + self._printk.read(), key=lambda said: said.at if said.at is not None else 0
        )

    def close(self) -> None:
        self._held.close()
