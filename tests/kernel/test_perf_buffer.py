# SPDX-License-Identifier: Apache-2.0
"""What a program puts into a perf event array arrives, also after the object that it came from is closed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.kernel.test_logs import INCLUDE
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import Object
from xdpchain.sys.perf_buffer import PerfBuffer

SOURCE = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} whole SEC(".maps");
SEC("xdp") int writer(struct xdp_md *ctx)
{
	__u64 size = ctx->data_end - ctx->data, tag = 7;

	bpf_perf_event_output(ctx, &whole, size << 32 | BPF_F_CURRENT_CPU, &tag, sizeof(tag));
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.mark.usefixtures("root")
def test_samples_arrive(tmp_path: Path) -> None:
    (tmp_path / "writer.c").write_text(SOURCE)
    command = ["clang", "-O2", "-g", "-target", "bpf", *INCLUDE, "-c", "writer.c", "-o", "writer.o"]
    subprocess.run(command, check=True, cwd=tmp_path)
    with Object((tmp_path / "writer.o").read_bytes(), "writer") as opened:
        opened.load()
        (program,), (array,) = opened.programs(), opened.maps()
        buffer, writer = PerfBuffer(array.fd, 8), bpf.Fd(os.dup(program.fd))
    with buffer, writer:
        assert buffer.drain() == []
        packets = [bytes(range(64)), bytes(1500), b"x" * 61]
        for packet in packets:
            bpf.prog_test_run(writer, packet)
        found = buffer.drain()  # by CPU
        assert len(found) == len(packets)
        for packet in packets:
            assert any(sample.startswith((7).to_bytes(8, "little") + packet) for sample in found)
        assert buffer.drain() == []
