# SPDX-License-Identifier: Apache-2.0
"""Where inlined functions are called from: real compilers' DWARF, none, and damaged ones."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from xdpchain.decoding import Fields
from xdpchain.objects import dwarf
from xdpchain.objects.elf import Elf
from xdpchain.objects.inlined import inlining_of
from xdpchain.objects.verdicts import verdicts_of
from xdpchain.observe.recording.sites import reasons_in, reasons_out
from xdpchain.observe.site_shares import SlotReasons
from xdptui.words.site_words import site_document, site_words

SOURCE = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define SHORTER(n) (data + (n) > end)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} m SEC(".maps");
static __always_inline int known(__u32 key, int otherwise)
{
	__u32 *value = bpf_map_lookup_elem(&m, &key);

	if (!value || *value == 7)
		return XDP_DROP;
	return otherwise;
}
static __always_inline int outer(char *data)
{
	if (data[12] == 8)
		return XDP_TX;
	return known(2, XDP_PASS);
}
SEC("xdp/other") int other(struct xdp_md *ctx)
{
	return known(ctx->ingress_ifindex & 1, XDP_PASS);
}
SEC("xdp") int calls(struct xdp_md *ctx)
{
	char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (SHORTER(14))
		return XDP_ABORTED;
	if (data[0] == 1)
		return known(1, XDP_PASS);
	return outer(data);
}
char _license[] SEC("license") = "GPL";
"""


def line_of(text: str) -> int:
    return SOURCE.splitlines().index(text) + 1


ONCE, TWICE, OUTER = map(
    line_of, ("\t\treturn known(1, XDP_PASS);", "\treturn known(2, XDP_PASS);", "\treturn outer(data);")
)
ALONE = line_of("\treturn known(ctx->ingress_ifindex & 1, XDP_PASS);")


@cache
def compiled(*options: str) -> bytes:
    include = [f"-I{path}" for path in Path("/usr/include").glob("*-linux-gnu")]
    with TemporaryDirectory() as folder:
        Path(folder, "calls.c").write_text(SOURCE)
        command = [
            "clang",
            "-O2",
            "-target",
            "bpf",
            "-mcpu=v3",
            *include,
            *options,
            "-c",
            "calls.c",
            "-o",
            "calls.o",
        ]
        subprocess.run(command, check=True, cwd=folder)
        return Path(folder, "calls.o").read_bytes()


@cache
def stripped() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "calls.o")
        path.write_bytes(compiled("-g"))
        subprocess.run(["llvm-strip", "-g", path], check=True)
        return path.read_bytes()


def calls_of(data: bytes, program: str = "calls") -> dict[tuple[str, int], list[list[tuple[str, int]]]]:
    """The calls by what is decided, and in which line."""
    return {
        (site.word, site.line.number if site.line else 0): [
            [(call.function, call.line.number) for call in calls] for calls in site.called_from
        ]
        for site in verdicts_of(data, program).sites
    }


@pytest.mark.parametrize("options", [("-gdwarf-4",), ("-gdwarf-5",), ("-g",), ("-g", "-ffunction-sections")])
def test_the_calls_of_inlined_functions(options: tuple[str, ...]) -> None:
    found = calls_of(compiled(*options))
    asked = line_of("\tif (!value || *value == 7)")
    both = [[("known", ONCE)], [("known", TWICE), ("outer", OUTER)]]
    assert found["DROP", asked] == both
    assert found["TX", line_of("\tif (data[12] == 8)")] == [[("outer", OUTER)]]
    assert found["ABORTED", line_of("\tif (SHORTER(14))")] == [], "a macro's line is where it is used"
    assert calls_of(compiled(*options), "other")["DROP", asked] == [[("known", ALONE)]]


def test_in_words_and_for_json() -> None:
    sites = {site.word: site for site in verdicts_of(compiled("-g"), "calls").sites}
    assert site_words(sites["DROP"]).endswith(f"(called from {ONCE}, or from {TWICE} from {OUTER})")
    document = site_document(sites["TX"])["called_from"]
    assert document == [
        [{"function": "outer", "file": "calls.c", "line": OUTER, "text": document[0][0]["text"]}]
    ]
    assert site_document(sites["ABORTED"])["called_from"] == []
    reasons = (SlotReasons(0, "key", "calls", tuple(sites.values())),)
    (read,) = reasons_in([Fields(document, "a recording") for document in reasons_out(reasons)])
    assert [site.called_from for site in read.sites] == [site.called_from for site in sites.values()]


def test_without_dwarf_nothing_is_said_of_calls() -> None:
    assert all(not calls for calls in calls_of(stripped()).values())
    assert calls_of(stripped()).keys() == calls_of(compiled("-g")).keys()


def test_compressed_sections_are_left_alone() -> None:
    if shutil.which("llvm-objcopy") is None:
        pytest.skip("no llvm-objcopy")
    with TemporaryDirectory() as folder:
        path = Path(folder, "calls.o")
        path.write_bytes(compiled("-g"))
        done = subprocess.run(["llvm-objcopy", "--compress-debug-sections=zlib", path], check=False)
        if done.returncode:
            pytest.skip("this llvm-objcopy does not compress")
        assert all(not calls for calls in calls_of(path.read_bytes()).values())


def debug_sections(data: bytes) -> list[tuple[int, int]]:
    """Where DWARF lies in the file."""
    view, found = memoryview(data), []
    for section in Elf.parse(data).sections:
        if section.name.startswith((".debug", ".rel.debug")) and len(section.data):
            start = data.index(bytes(section.data))
            assert view[start : start + len(section.data)] == section.data
            found.append((start, len(section.data)))
    return found


@pytest.mark.parametrize("options", ["-gdwarf-4", "-gdwarf-5"])
def test_damaged_dwarf(options: str) -> None:
    """Any bytes in it: the sites stay, at worst without calls, or with wrong ones."""
    whole, chance = compiled(options), random.Random(1)
    sections, known = debug_sections(whole), calls_of(whole).keys()
    for _ in range(300):
        damaged = bytearray(whole)
        start, size = chance.choice(sections)
        for _ in range(chance.randint(1, 4)):
            damaged[start + chance.randrange(size)] = chance.choice(
                (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
            )
        begun = time.monotonic()
        assert calls_of(bytes(damaged)).keys() == known
        assert time.monotonic() - begun < 10


def test_endless_dwarf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dwarf, "MOST_ENTRIES", 10)
    inlining_of.cache_clear()
    assert inlining_of(compiled("-g")).regions == ()
    inlining_of.cache_clear()


@pytest.mark.parametrize("number", [b"\x80" * 20, b"\xff" * 1000 + b"\x01"])
def test_a_number_that_does_not_end(number: bytes) -> None:
    with pytest.raises(dwarf.NoDwarf):
        dwarf._Reader(memoryview(number)).leb()
