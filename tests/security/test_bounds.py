# SPDX-License-Identifier: Apache-2.0
"""Input that is merely large is refused, or read in part, within the limits listed in docs/security.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUSY = 4
"""How much slower than an idle machine one that runs other tests may be."""

PRELUDE = """
import json, resource, struct, sys, time
from xdpchain.errors import InvalidInput
from xdpchain.objects.btf import Btf
def btf(count):
    strings = b"\\0int\\0"
    types = struct.pack("<IIII", 1, 1 << 24, 4, 32) + struct.pack("<III", 0, 2 << 24, 1) * count
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings
def elf(sections):
    names, table, body = b"\\0", [bytes(64)], b""
    for name, data in [*sections, (b".shstrtab", None)]:
        at = len(names)
        names += name + b"\\0"
        data = names if data is None else data
        kind = 3 if name == b".shstrtab" else 1
        table.append(struct.pack("<IIQQQQIIQQ", at, kind, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0))
        body += data
    counts = (64, len(table), len(table) - 1)
    ident = b"\\x7fELF\\2\\1\\1"
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 1, 247, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, *counts)
    return header + body + b"".join(table)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def measure(read):
    begun = time.process_time()
    try:
        read()
        said = "read"
    except InvalidInput as error:
        said = str(error)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([time.process_time() - begun, (used - before) >> 10, said[:300]]))
"""

INPUTS = {
    "Object file": ("object files", """
from xdpchain.objects.objfile import ObjectFile
measure(lambda: ObjectFile.parse(elf([(b"xdp", bytes(65 << 20))])))""", "67108864"),
    "BTF of an object file": ("BTF", """
from xdpchain.objects.objfile import ObjectFile
measure(lambda: ObjectFile.parse(elf([(b".BTF", btf(16 << 20 >> 4))])))""", "4194304"),
    "types in it": ("BTF types", """
from xdpchain.objects.objfile import ObjectFile
measure(lambda: ObjectFile.parse(elf([(b".BTF", btf(300_000))])))""", "65536"),
    "types in it, as many as are read": ("BTF read", """
from xdpchain.objects.objfile import ObjectFile
measure(lambda: ObjectFile.parse(elf([(b".BTF", btf(65_000))])))""", "read"),
    "Spec, as large as is read": ("spec read", """
from xdpchain.spec.reading import parse
text = '[[interface]]\\nname = "eth0"\\nslot = []\\n' * 6000 + "unknown = 1"
measure(lambda: parse(text))""", "unknown key"),
    "JSON": ("JSON", """
from xdpchain.model.manifest import Manifest
measure(lambda: Manifest.decode(b'{"a":"' + b"x" * (60 << 20) + b'"}'))""", "1048576"),
    "Spec": ("spec", """
from xdpchain.spec.reading import parse
measure(lambda: parse("#" * (60 << 20)))""", "262144"),
    "Dotted key": ("dotted key", """
from xdpchain.spec.reading import parse
measure(lambda: parse("a" + ".a" * 100_000 + " = 1"))""", "32"),
    "Hex dump": ("hex", """
from xdpchain.trial.packets.sources import read_packets
from xdpchain.model.link_layer import link_layer
measure(lambda: read_packets(b"00 " * (20 << 20), "dump", link_layer(1)))""", "1048576"),
    "Hex dump, lines": ("hex lines", """
from xdpchain.trial.packets.sources import read_packets
from xdpchain.model.link_layer import link_layer
measure(lambda: read_packets(b"\\n" * (60 << 20), "dump", link_layer(1)))""", "no packets"),
    "Recording": ("recording", """
from xdpchain.observe.recording import Recording
measure(lambda: Recording("/dev/zero"))""", "not a regular file"),
    "Packets to try": ("capture", """
from xdpchain.trial.packets.sources import packets_of
from xdpchain.model.interface import Interface
measure(lambda: packets_of("/dev/zero", Interface("lo", 1)))""", "1048576"),
}  # fmt: skip


def documented() -> dict[str, tuple[float, int]]:
    """Seconds and MB by input, from the table in docs/security.md."""
    row = re.compile(r"^\| ([^|]+?) +\| [^|]+ \| ([0-9.]+) s \| ([0-9]+) MB \|", re.MULTILINE)
    text = (ROOT / "docs" / "security.md").read_text()
    return {match[1]: (float(match[2]), int(match[3])) for match in row.finditer(text)}


@pytest.mark.parametrize("name", INPUTS)
def test_it_takes_no_more_than_the_documentation_says(name: str) -> None:
    _, code, said = INPUTS[name]
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"},
    )
    seconds, megabytes, text = json.loads(done.stdout)
    most_seconds, most_megabytes = documented()[name]
    assert said in text
    assert seconds < most_seconds * BUSY, text
    assert megabytes < most_megabytes, text


def test_every_input_is_documented() -> None:
    assert set(INPUTS) <= set(documented())
