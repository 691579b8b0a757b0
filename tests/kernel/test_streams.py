# SPDX-License-Identifier: Apache-2.0
"""`xdptui logs` and BPF streams: what programs write to their stdout and stderr."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change
from tests.kernel.command_line import CommandLine
from tests.kernel.loaders import attach_pinned, pinned_program
from tests.kernel.test_logs import INCLUDE, PACKET, heard
from xdpchain.model.chain import Linkage
from xdpchain.observe.logs import Logs, Output, Said
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import LoadFailed, Object
from xdpchain.testing.playground import Playground

SOURCE = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct bpf_prog_aux;
#if KERNEL == 0 /* 7.0 */
extern int bpf_stream_vprintk(int, const char *, const void *, __u32) __weak __ksym;
#define write(...) bpf_stream_vprintk(__VA_ARGS__)
#elif KERNEL == 1 /* 6.18 */
extern int bpf_stream_vprintk_impl(int, const char *, const void *, __u32, void *) __weak __ksym;
#define write(...) bpf_stream_vprintk_impl(__VA_ARGS__, 0)
#else /* 6.17 */
extern int bpf_stream_vprintk(int, const char *, const void *, __u32, void *) __weak __ksym;
#define write(...) bpf_stream_vprintk(__VA_ARGS__, 0)
#endif
int result;
SEC("xdp") int NAME(struct xdp_md *ctx)
{
	static const char out[] = TEXT " saw %d bytes\\n", err[] = TEXT " %c[31m fails\\n";
	__u64 length = ctx->data_end - ctx->data, escape = 27;

	result = write(1, out, &length, sizeof(length));
	if (ERR)
		write(2, err, &escape, sizeof(escape));
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
SILENT = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int silent(struct xdp_md *ctx) { return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""
LOOPER = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int looper(struct xdp_md *ctx)
{
	volatile int turns = 0;

	for (;;) { /* may_goto: the kernel ends it after a quarter of a second */
		asm goto("1:.byte 0xe5, 0; .long ((%l[out] - 1b - 8) / 8) & 0xffff; .short 0" : : : : out);
		turns++;
	}
out:
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""

writing = pytest.mark.vm
"""Writing needs memory in any context, which not every kernel gives (ENOMEM): those of the lab do."""


def compile_writer(path: Path, name: str, kernel: int, *, err: bool = False) -> Path:
    source = path / f"{name}.c"
    source.write_text(SOURCE)
    defines = [f"-DKERNEL={kernel}", f"-DNAME={name}", f'-DTEXT="{name}"', f"-DERR={int(err)}"]
    command = ["clang", "-O2", "-g", "-target", "bpf", *INCLUDE, *defines, "-c", source.name]
    subprocess.run([*command, "-o", f"{name}.o"], check=True, cwd=path)
    return path / f"{name}.o"


def first_result(path: Path) -> int | None:
    """What the kernel answers a program that writes; None: it refuses the program."""
    with Object(path.read_bytes(), "writer") as opened:
        try:
            opened.load()
        except LoadFailed:
            return None
        (program,) = opened.programs()
        bpf.prog_test_run(bpf.Fd(os.dup(program.fd)), PACKET)
        (bss,) = (found for found in opened.maps() if found.name.endswith("bss"))
        return int(struct.unpack("<i", bpf.map_lookup(bpf.Fd(os.dup(bss.fd)), bytes(4), 4))[0])


@pytest.fixture
def writers(root: None, tmp_path: Path) -> Path:
    """``first.o`` and ``second.o`` write to stdout, ``third.o`` to stderr, too, ``silent.o`` not at all."""
    for kernel in range(3):
        answer = first_result(compile_writer(tmp_path, "first", kernel))
        if answer is not None:
            break
    else:
        pytest.skip("this kernel has no function that writes to a BPF stream")
    if answer:
        # kmalloc_nolock() needs a processor with cmpxchg16b, and all memory initialized
        pytest.skip(f"the kernel answers a program that writes to its stream: {errno.errorcode[-answer]}")
    compile_writer(tmp_path, "second", kernel)
    compile_writer(tmp_path, "third", kernel, err=True)
    (tmp_path / "silent.c").write_text(SILENT)
    command = ["clang", "-O2", "-g", "-target", "bpf", *INCLUDE, "-c", "silent.c", "-o", "silent.o"]
    subprocess.run(command, check=True, cwd=tmp_path)
    return tmp_path


def texts(found: list[Said]) -> list[tuple[Output, str, str]]:
    """With the slot's name; empty: not known."""
    return [(said.output, said.text, said.slot[1] if said.slot else "") for said in found]


SAW = f"saw {len(PACKET)} bytes"


@writing
@pytest.mark.parametrize("linkage", Linkage)
def test_a_line_is_known_by_its_slot_where_slots_have_programs(
    playground: Playground, writers: Path, linkage: Linkage
) -> None:
    running = change(playground, chain_of(writers, "first", "third", linkage=linkage))
    with Logs() as logs:
        logs.follow(running)
        assert logs.read() == []
        assert logs.no_streams == ""
        playground.send([PACKET] * 2)
        found = heard(logs, 6)
    known = linkage is not Linkage.STATIC
    first, third = ("first", "third") if known else ("", "")
    assert sorted(texts(found), key=str) == sorted(
        [
            (Output.STDOUT, f"first {SAW}", first),
            (Output.STDOUT, f"third {SAW}", third),
            (Output.STDERR, "third \x1b[31m fails", third),
        ]
        * 2,
        key=str,
    )
    assert all(said.at is not None and said.cpu is None and said.line is None for said in found)


@writing
def test_under_static_linkage_by_the_only_one_that_can_write(playground: Playground, writers: Path) -> None:
    running = change(playground, chain_of(writers, "silent", "first"))
    playground.send([PACKET])
    names = [slot.name for slot in running.chain or ()]
    with Logs() as logs, Logs() as other:
        logs.follow(running, names.index("silent"))
        other.follow(running, names.index("first"))
        assert logs.read() == [], "another slot's lines are left to whom they concern"
        (said,) = heard(other, 1)
        assert texts([said]) == [(Output.STDOUT, f"first {SAW}", "first")]
        assert said.at is None, "it was printed before anybody listened"
        assert other.read() == [], "a line is read once"


@writing
def test_an_edit_loses_no_line(playground: Playground, writers: Path) -> None:
    running = change(playground, chain_of(writers, "first"))
    with Logs() as logs:
        logs.follow(running)
        logs.read()
        playground.send([PACKET])
        after = change(playground, chain_of(writers, "first", "second"))
        playground.send([PACKET])
        logs.follow(after)
        found = heard(logs, 3)
    assert sorted(said.text for said in found) == [f"first {SAW}", f"first {SAW}", f"second {SAW}"]
    assert all(said.at is not None for said in found)


@writing
def test_the_command(cli: CommandLine, playground: Playground, writers: Path) -> None:
    change(playground, chain_of(writers, "third"))
    playground.send([PACKET])
    lines = cli("logs", cli.interface, "-c", "2", "--timeout", "20", "--jsonl").out.splitlines()
    known = {"at": None, "cpu": None, "slot": 0, "name": "third", "file": None, "line": None}
    assert [json.loads(line) for line in lines] == [
        {**known, "output": "stdout", "text": f"third {SAW}"},
        {**known, "output": "stderr", "text": "third \x1b[31m fails"},
    ]
    playground.send([PACKET])
    text = cli("logs", cli.interface, "-c", "2", "--timeout", "20").out
    assert f"stdout  third  third {SAW}" in text
    assert "third \\x1b[31m fails" in text


@writing
def test_what_the_kernel_says_of_a_program_that_it_stopped(
    cli: CommandLine, playground: Playground, writers: Path
) -> None:
    (writers / "looper.c").write_text(LOOPER)
    command = ["clang", "-O2", "-g", "-target", "bpf", *INCLUDE, "-c", "looper.c", "-o", "looper.o"]
    subprocess.run(command, check=True, cwd=writers)
    with pinned_program(writers / "looper.o") as pin:
        attach_pinned(playground, pin)
        playground.send([PACKET])
        told = cli("logs", cli.interface, "--streams", "-c", "1", "--timeout", "20", "--json")
    said = json.loads(told.out.splitlines()[0])
    assert (said["output"], said["name"]) == ("stderr", "looper")
    assert "may_goto" in said["text"]


@writing
def test_what_others_programs_write_is_left_to_their_owner(
    cli: CommandLine, playground: Playground, writers: Path
) -> None:
    with pinned_program(writers / "first.o") as pin:
        attach_pinned(playground, pin)
        playground.send([PACKET])
        left = cli("-v", "logs", cli.interface, "--timeout", "0.3")
        assert "bpf_printk only: BPF streams are left to other readers" in left.err
        assert left.out == ""
        assert SAW in cli("logs", cli.interface, "--streams", "-c", "1", "--timeout", "20").out


def test_why_there_are_none(cli: CommandLine, playground: Playground, samples: Path) -> None:
    """Whatever this kernel has: where it has no streams, the command says so and reads the rest."""
    running = change(playground, chain_of(samples, "monitor"))
    assert running.hook is not None
    with bpf.prog_by_id(running.hook.prog_id) as program:
        answer = 0
        try:
            bpf.prog_stream_read(program, 1, 64)
        except bpf.BpfError as error:
            answer = error.errno or 0
    told = cli("logs", cli.interface, "--streams", "--timeout", "0.2")
    assert (told.code, told.out) == (0, "")
    if answer:
        assert answer == errno.EINVAL
        assert "warning: bpf_printk only: this kernel has no BPF streams (6.17 is needed)" in told.err
    else:
        assert told.err == ""
