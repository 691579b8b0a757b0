# SPDX-License-Identifier: Apache-2.0
"""`xdptui logs`: what programs print, by slot, and at which source line."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change
from tests.kernel.command_line import CommandLine
from tests.kernel.loaders import attach_pinned, pinned_program
from xdpchain.model.chain import Linkage
from xdpchain.observe.logs import Logs, Said
from xdpchain.testing.frames import NEAR, PEER, udp
from xdpchain.testing.playground import Playground

PRINTER = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int %s(struct xdp_md *ctx)
{
	static const char format[] = "%s saw %%d bytes";

	bpf_trace_printk(format, sizeof(format), (int)(ctx->data_end - ctx->data));
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
LINE = 7
INCLUDE = [f"-I{path}" for path in Path("/usr/include").glob("*-linux-gnu")]
PACKET = udp(PEER, NEAR, 9)


def compile_printers(tmp_path: Path) -> Path:
    """``first.o`` and ``second.o``, each from its own source file."""
    for name in ("first", "second"):
        (tmp_path / f"{name}.c").write_text(PRINTER % (name, name))
        command = ["clang", "-O2", "-g", "-target", "bpf", *INCLUDE, "-c", f"{name}.c", "-o", f"{name}.o"]
        subprocess.run(command, check=True, cwd=tmp_path)
    return tmp_path


@pytest.fixture
def printers(tmp_path: Path) -> Path:
    return compile_printers(tmp_path)


def heard(logs: Logs, count: int) -> list[Said]:
    found: list[Said] = []
    end = time.monotonic() + 20
    while len(found) < count and time.monotonic() < end:
        found += logs.read()
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
def test_who_printed_and_where(playground: Playground, printers: Path, linkage: Linkage) -> None:
    running = change(playground, chain_of(printers, "first", "second", linkage=linkage))
    with Logs() as logs:
        logs.follow(running)
        playground.send([PACKET] * 2)
        found = heard(logs, 4)
        assert logs.lost == 0
    if logs.blind:
        pytest.skip("the kernel hides where programs lie: kernel.kptr_restrict")
    assert sorted(said.text for said in found) == sorted(
        f"{name} saw {len(PACKET)} bytes" for name in ("first", "second") * 2
    )
    for said in found:
        assert said.slot is not None
        assert said.text.startswith(said.slot[1])
        assert said.slot in ((0, "first"), (1, "second"))
        assert said.line is not None
        assert said.line.number == LINE
        assert abs(said.at - time.time()) < 60


@pytest.fixture
def traffic(playground: Playground) -> Iterator[None]:
    stop = threading.Event()

    def send() -> None:
        end = time.monotonic() + 30
        while not stop.wait(0.1) and time.monotonic() < end:
            playground.send([PACKET])

    thread = threading.Thread(target=send)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("traffic")
def test_the_command(cli: CommandLine, playground: Playground, printers: Path) -> None:
    assert cli("logs", cli.interface).code == 5, "nothing runs there"
    change(playground, chain_of(printers, "first", "second"))
    words = ("logs", cli.interface, "second", "-c", "2", "--timeout", "20")
    told = cli(*words, "--jsonl")
    assert told.code == 0, told.err
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [(line["slot"], line["name"], line["line"]) for line in lines] == [(1, "second", LINE)] * 2
    text = cli(*words).out
    assert f"second saw {len(PACKET)} bytes" in text
    assert cli("logs", cli.interface, "third").code == 5


@pytest.mark.usefixtures("traffic")
def test_a_program_of_somebody_else(cli: CommandLine, playground: Playground, printers: Path) -> None:
    with pinned_program(printers / "first.o") as pin:
        attach_pinned(playground, pin)
        (line,) = cli("logs", cli.interface, "-c", "1", "--timeout", "20", "--jsonl").out.splitlines()
    assert (json.loads(line)["name"], json.loads(line)["line"]) == ("first", LINE)


JOINED = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int joined(struct xdp_md *ctx)
{
	static const char odd[] = "odd %d", even[] = "evn %d";
	int length = ctx->data_end - ctx->data;

	if (length & 1)
		bpf_trace_printk(odd, sizeof(odd), length);
	else
		bpf_trace_printk(even, sizeof(even), length);
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""


def test_code_that_the_compiler_joined_has_a_slot_but_no_line(playground: Playground, printers: Path) -> None:
    """Two calls became one: its line could be either's, and is neither's before it."""
    (printers / "joined.c").write_text(JOINED)
    command = ["clang", "-O2", "-g", "-target", "bpf", *INCLUDE, "-c", "joined.c", "-o", "joined.o"]
    subprocess.run(command, check=True, cwd=printers)
    running = change(playground, chain_of(printers, "joined", "first"))
    with Logs() as logs:
        logs.follow(running)
        playground.send([PACKET])
        found = {said.text: said for said in heard(logs, 2)}
    if logs.blind:
        pytest.skip("the kernel hides where programs lie: kernel.kptr_restrict")
    said = found[f"evn {len(PACKET)}"]
    assert said.slot is not None
    assert said.slot[1] == "joined"
    assert said.line is None or said.line.number == 11, "the line of its own, where a compiler joins nothing"
    assert found[f"first saw {len(PACKET)} bytes"].line is not None
