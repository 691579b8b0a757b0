# SPDX-License-Identifier: Apache-2.0
"""The kernel itself, from its self-extracting image.

Emulated, extraction takes longer than the rest of the boot; here it takes half a second, once. QEMU starts
the plain kernel directly (with the PVH boot protocol, which Debian's kernels support).
"""

from __future__ import annotations

import struct
import subprocess

__all__ = ["payload", "plain_kernel"]

# Offsets in the setup header, from the kernel's Documentation/arch/x86/boot.rst.
_SETUP_SECTORS = 0x1F1
_MAGIC = 0x202
_PAYLOAD = 0x248
_SECTOR = 512

_UNPACKERS: dict[bytes, tuple[str, ...]] = {
    b"\xfd7zXZ\x00": ("xz", "--decompress", "--stdout", "--single-stream"),
    b"\x28\xb5\x2f\xfd": ("zstd", "--decompress", "--stdout"),
}


def payload(image: bytes) -> bytes | None:
    """The compressed kernel inside a bzImage; None if it is not a bzImage with one (protocol 2.08 on)."""
    if len(image) < _PAYLOAD + 8 or image[_MAGIC : _MAGIC + 4] != b"HdrS":
        return None
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = ((image[_SETUP_SECTORS] or 4) + 1) * _SECTOR + offset
    return image[start : start + length] or None


def plain_kernel(image: bytes) -> bytes | None:
    """The ELF file of a bzImage's kernel; None if this machine can't decompress it.

    Without it the image still boots, only slower.
    """
    packed = payload(image)
    command = next(
        (words for magic, words in _UNPACKERS.items() if packed and packed.startswith(magic)), None
    )
    if packed is None or command is None:
        return None
    # The build appends the unpacked size, 4 bytes, which is not part of the stream.
    try:
        unpacked = subprocess.run(command, input=packed[:-4], capture_output=True, check=False)
    except OSError:
        return None
    return unpacked.stdout if unpacked.returncode == 0 and unpacked.stdout.startswith(b"\x7fELF") else None
