# SPDX-License-Identifier: Apache-2.0
"""The dispatcher's configuration block <-> bytes, versions 1 to 3 of libxdp's protocol. Pure.

Version 1 has no magic and is recognised by its size. Versions 2 and 3 begin with the magic byte 236 and the
version. All integers are in host byte order.
"""

from __future__ import annotations

import struct

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action
from xdpchain.model.chain import DISPATCHER_SLOTS
from xdpchain.model.slot import Slot

__all__ = ["EVERY_CODE", "MAGIC", "SIZES", "USED", "VERSIONS", "DispatcherConfig", "SlotConfig", "mask_of"]

MAGIC = 236
USED = 1 << 31
"""Set in the action set of every used slot: an unreplaced stub returns 31, and the chain continues."""

EVERY_CODE = USED - 1
"""The action set of a slot in shadow, without the USED bit: with it the set is all ones, which means any
code. Our dispatchers test for exactly that; libxdp's continue after codes up to 31, and end after most larger
ones.
"""

SIZES = {1: 84, 2: 124, 3: 128}
VERSIONS = tuple(SIZES)

_ARRAY = f"={DISPATCHER_SLOTS}I"


@frozen
class SlotConfig:
    """One used slot: mask of chain call actions (without the USED bit), run priority, program flags."""

    actions: int
    priority: int
    flags: int = 0


def mask_of(slot: Slot) -> int:
    """The actions that the dispatcher gets for a slot; for one that is off, its `stand_in`'s."""
    if slot.off:
        return 1 << Action.PASS
    return EVERY_CODE if slot.shadow else slot.actions.mask


@frozen
class DispatcherConfig:
    """A dispatcher's configuration block."""

    version: int
    slots: tuple[SlotConfig, ...]
    frags: bool = False
    devbound: bool = False

    def encode(self) -> bytes:
        """The block as the dispatcher's .rodata holds it. Raises InvalidInput for version 1, which nothing
        emits.
        """
        if self.version not in (2, 3):
            raise InvalidInput(f"dispatcher version {self.version} is not supported", todo="Choose 2 or 3")
        rest = [0] * (DISPATCHER_SLOTS - len(self.slots))
        block = struct.pack("=4B", MAGIC, self.version, len(self.slots), self.frags)
        block += struct.pack(_ARRAY, *(slot.actions | USED for slot in self.slots), *rest)
        block += struct.pack(_ARRAY, *(slot.priority for slot in self.slots), *rest)
        block += struct.pack(_ARRAY, *(slot.flags for slot in self.slots), *rest)
        if self.version >= 3:
            block += struct.pack("=B3x", self.devbound)
        return block

    @classmethod
    def decode(cls, block: bytes) -> DispatcherConfig:
        """Read a block of any version. Raises InvalidInput if it is not a valid configuration."""
        version = next((v for v, size in SIZES.items() if size == len(block)), None)
        if version is None:
            raise InvalidInput(f"{len(block)} bytes are not a dispatcher configuration")
        if version == 1:
            count, frags, start = block[0], 0, 4
        else:
            magic, said, count, frags = struct.unpack_from("=4B", block)
            if magic != MAGIC or said != version:
                raise InvalidInput(
                    "this is not a dispatcher configuration",
                    f"magic {magic}, version {said} in {len(block)} bytes",
                )
            start = 4
        if count > DISPATCHER_SLOTS:
            raise InvalidInput("this is not a dispatcher configuration", f"it claims {count} slots")
        actions = struct.unpack_from(_ARRAY, block, start)
        priorities = struct.unpack_from(_ARRAY, block, start + 40)
        flags = struct.unpack_from(_ARRAY, block, start + 80) if version >= 2 else (0,) * DISPATCHER_SLOTS
        devbound = version >= 3 and bool(block[124])
        slots = tuple(SlotConfig(actions[i] & ~USED, priorities[i], flags[i]) for i in range(count))
        return cls(version, slots, bool(frags), devbound)
