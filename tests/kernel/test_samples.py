# SPDX-License-Identifier: Apache-2.0
"""The samples do what they are for: each loads on this kernel, and its packets come out as documented.

With bpftool only, so that a failure here is the sample's and not the engine's.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpchain.testing import frames
from xdpchain.testing.frames import NEAR, PEER

pytestmark = [
    pytest.mark.usefixtures("root"),
    pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed (make setup)"),
]

DROP, PASS, TX, REDIRECT = 1, 2, 3, 4

LOADS = [
    "bigstack",
    "counter",
    "counter_v2",
    "counter_v3",
    "drop",
    "firewall",
    "globalfn",
    "globals",
    "hugestack",
    "mapinmap",
    "mark",
    "meta",
    "monitor",
    "nobtf",
    "pass",
    "printer",
    "ratelimit",
    "redirect",
    "scripted",
    "subprogs",
    "tailcalls",
    "two",
]
NEWER = {"loops": "bpf_loop (kernel 5.17)", "frags": "fragments (kernel 5.18)"}
REFUSED = ["refused"]

Shell = Callable[[str], subprocess.CompletedProcess[str]]
Run = Callable[[str, str, bytes], tuple[int, bytes]]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a script with $pins, a private bpffs that ends with the script."""
    (tmp_path / "pins").mkdir()

    def run(script: str) -> subprocess.CompletedProcess[str]:
        mounted = f"pins={tmp_path}/pins; mount -t bpf -o mode=0700 bpf $pins && {{ {script}; }}"
        return subprocess.run(["unshare", "--mount", "sh", "-c", mounted], capture_output=True, text=True)

    return run


@pytest.fixture
def run_once(shell: Shell, samples: Path, tmp_path: Path) -> Run:
    """One frame through one program, with BPF_PROG_TEST_RUN: (return code, the frame afterwards)."""

    def run(sample: str, program: str, frame: bytes) -> tuple[int, bytes]:
        before, after = tmp_path / "in", tmp_path / "out"
        before.write_bytes(frame)
        done = shell(
            f"bpftool prog loadall {shlex.quote(str(samples / sample))}.o $pins/it type xdp"
            f" pinmaps $pins/maps"
            f" && bpftool prog run pinned $pins/it/{program} data_in {before} data_out {after}"
        )
        assert done.returncode == 0, done.stderr
        code = int(done.stdout.partition("Return value: ")[2].partition(",")[0])
        return code, after.read_bytes()

    return run


def test_every_sample_is_listed(samples: Path) -> None:
    assert {path.stem for path in samples.glob("*.o")} == {*LOADS, *NEWER, *REFUSED}


@pytest.mark.parametrize("name", LOADS)
def test_loads(shell: Shell, samples: Path, name: str) -> None:
    done = shell(
        f"bpftool prog loadall {shlex.quote(str(samples / name))}.o $pins/it type xdp && ls $pins/it"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("name", NEWER)
def test_loads_where_the_kernel_can(shell: Shell, samples: Path, name: str) -> None:
    done = shell(f"bpftool -d prog loadall {shlex.quote(str(samples / name))}.o $pins/it type xdp")
    if "unknown func" in done.stderr or "failed to load: -22" in done.stderr:
        pytest.skip(f"this kernel has no {NEWER[name]}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_the_verifier(shell: Shell, samples: Path, name: str) -> None:
    done = shell(f"bpftool -d prog loadall {shlex.quote(str(samples / name))}.o $pins/it type xdp")
    assert done.returncode != 0
    assert "invalid access to packet" in done.stderr


@pytest.mark.parametrize("letter", "ABC")
def test_mark_appends_its_letter(run_once: Run, letter: str) -> None:
    frame = frames.udp(PEER, NEAR, 9, payload=b"payload ")
    assert run_once("mark", f"mark_{letter.lower()}", frame) == (PASS, frame + letter.encode())


@pytest.mark.parametrize(("number", "code"), [(0, 0), (1, 1), (5, 4), (9, 255)])
def test_scripted_returns_what_the_packet_says(run_once: Run, number: int, code: int) -> None:
    script = bytearray([7] * 10)
    script[number] = code
    frame = frames.scripted(bytes(script))
    assert run_once("scripted", f"scripted_{number}", frame) == (code, frame + b"%d" % number)


def test_scripted_leaves_other_packets_alone(run_once: Run) -> None:
    frame = frames.udp(PEER, NEAR, 9, payload=bytes(20))
    assert run_once("scripted", "scripted_0", frame) == (PASS, frame)


def test_meta_head_pushes_a_vlan_tag(run_once: Run) -> None:
    frame = frames.udp(PEER, NEAR, 9, payload=b"payload")
    tagged = frame[:12] + bytes.fromhex("81000005") + frame[12:]
    assert run_once("meta", "meta_head", frame) == (PASS, tagged)


def test_meta_tail_cuts_off_padding(run_once: Run) -> None:
    frame = frames.udp(PEER, NEAR, 9)
    assert run_once("meta", "meta_tail", frame.ljust(60, b"\0")) == (PASS, frame)


def test_redirect_back_turns_the_frame_around(run_once: Run) -> None:
    frame = frames.udp(PEER, NEAR, 9)
    assert run_once("redirect", "redirect_back", frame) == (TX, frame[6:12] + frame[:6] + frame[12:])


def test_tail_calls_decide(run_once: Run) -> None:
    assert run_once("tailcalls", "xdp_tailcalls", frames.tcp_syn(PEER, NEAR, 22))[0] == DROP
    assert run_once("tailcalls", "xdp_tailcalls", frames.udp(PEER, NEAR, 22))[0] == PASS


def test_firewall_drops_what_is_blocked_and_counts_it(shell: Shell, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_bytes(frames.tcp_syn(PEER, NEAR, 23, version=6))
    (tmp_path / "same-port-udp").write_bytes(frames.udp(PEER, NEAR, 23))
    pinned = "bpftool prog run pinned $pins/it/xdp_firewall"
    done = shell(
        f"bpftool prog loadall {shlex.quote(str(samples))}/firewall.o $pins/it type xdp pinmaps $pins/maps"
        " && bpftool map update pinned $pins/maps/blocked key 23 0 6 0 value 1"
        f" && {pinned} data_in {tmp_path}/blocked repeat 5"
        f" && {pinned} data_in {tmp_path}/same-port-udp"
        " && bpftool -j map lookup pinned $pins/maps/drops key 0 0 0 0"
    )
    assert done.returncode == 0, done.stderr
    assert "Return value: 1," in done.stdout
    assert "Return value: 2," in done.stdout
    assert '"value":5' in done.stdout


def test_ratelimit_lets_a_burst_pass_and_no_more(shell: Shell, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "frame").write_bytes(frames.udp(PEER, NEAR, 9))
    done = shell(
        f"bpftool prog loadall {shlex.quote(str(samples))}/ratelimit.o $pins/it type xdp pinmaps $pins/maps"
        f" && bpftool prog run pinned $pins/it/xdp_ratelimit data_in {tmp_path}/frame repeat 500"
        " && bpftool -j map dump pinned $pins/maps/buckets"
    )
    assert done.returncode == 0, done.stderr
    numbers = {
        field: int(done.stdout.partition(f'"{field}":')[2].partition("}")[0].partition(",")[0])
        for field in ("passed", "dropped")
    }
    assert sum(numbers.values()) == 500
    assert 50 <= numbers["passed"] <= 60  # the burst, and what 100 packets per second add meanwhile
