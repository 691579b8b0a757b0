# SPDX-License-Identifier: Apache-2.0
"""Find out what this kernel supports by trying it, with temporary programs and maps.

Checks that must attach a program use the loopback device of a temporary namespace.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator

from xdpchain.advice import Do, advise
from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import LET_PASS, Instruction, encode
from xdpchain.errors import PermissionDenied, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.linkage.dispatcher.config import DispatcherConfig, SlotConfig
from xdpchain.linkage.dispatcher.emit import MAIN, function_ids, load_dispatcher, takes_frags
from xdpchain.linkage.dispatcher.installed import DEFAULT_VERSION
from xdpchain.linkage.probe import probe_freplace, probe_tailcall
from xdpchain.observe.permissions import missing_capabilities
from xdpchain.sys import bpf, netns
from xdpchain.sys.netlink import Netlink

from .finding import AS_ROOT, Finding, Level, Topic, error, info, ok, warn

__all__ = ["examine_kernel"]

BPF_TRACE_FEXIT = 25
BPF_XDP = 37
BPF_F_MMAPABLE = 1 << 10
LOOPBACK = 1  # its ifindex in every namespace
PACKET = bytes(64)
ENOTSUPP = 524
NEWER = "Use a newer kernel"


EXIT = Instruction(op.EXIT, 0, 0, 0, 0)
RETURN_0 = encode((Instruction(op.MOV64_IMM, 0, 0, 0, 0), EXIT))
# Two functions: the first calls the second, which returns XDP_PASS.
CALLS = encode((Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 1), EXIT)) + LET_PASS
# struct btf_header, one 4-byte integer type, and its name
SMALLEST_BTF = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 16, 16, 5) + struct.pack(
    "=IIII", 1, 1 << 24, 4, 32
)
SMALLEST_BTF += b"\0int\0"


class _Lacking(Exception):
    """The attempt failed without an error from the kernel."""


@frozen
class _Attempt:
    """A feature: its check and name, how to try it, and the level, reason and fix if it is missing."""

    check: str
    name: str
    attempt: Callable[[], object]
    level: Level
    why: str
    fix: str = NEWER


def _xdp() -> bpf.Fd:
    return bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="xdptui_probe")


def _array(flags: int = 0) -> bpf.Fd:
    return bpf.map_create(bpf.MapType.ARRAY, 4, 8, 1, name="xdptui_probe", flags=flags)


def _test_run() -> None:
    with _xdp() as program:
        code = bpf.prog_test_run(program, PACKET).code
    if code != 2:
        raise _Lacking(f"a program that returns 2 returned {code}")


def _calls() -> None:
    bpf.prog_load(bpf.ProgType.XDP, CALLS, name="xdptui_probe").close()


def _tail_calls() -> None:
    probed = probe_tailcall()
    if not (probed.works and probed.functions):
        raise _Lacking(probed.reason)


def _types() -> None:
    bpf.btf_load(SMALLEST_BTF).close()


def _bind() -> None:
    with _xdp() as program, _array() as bound:
        bpf.prog_bind_map(program, bound)
        if bpf.map_info(bound).id not in bpf.prog_map_ids(program):
            raise _Lacking("the bound map is not listed for the program")


def _freeze() -> None:
    with _array() as fd:
        bpf.map_freeze(fd)


def _frags() -> None:
    if not takes_frags():
        raise _Lacking("the kernel refuses the flag BPF_F_XDP_HAS_FRAGS")


def _swap() -> None:
    """Attach, then replace with an expected program, in a temporary namespace."""

    def attach() -> None:
        with _xdp() as first, _xdp() as second, Netlink() as netlink:
            netlink.attach_xdp(LOOPBACK, first, "generic", None)
            netlink.attach_xdp(LOOPBACK, second, "generic", first)

    netns.run_apart(attach)


def _link() -> None:
    def attach() -> None:
        with _xdp() as program:
            bpf.link_create(program, LOOPBACK, BPF_XDP).close()

    netns.run_apart(attach)


def _raw_tracepoint() -> None:
    with bpf.prog_load(bpf.ProgType.RAW_TRACEPOINT, RETURN_0, name="xdptui_probe") as program:
        bpf.trace_attach(program, "xdp_exception").close()


def _loop() -> None:
    code = encode((Instruction(op.CALL, 0, op.CALL_HELPER, 0, op.Helper.LOOP), EXIT))
    try:
        bpf.prog_load(bpf.ProgType.XDP, code, name="xdptui_probe", log_level=1).close()
    except bpf.BpfError as refused:
        # The call lacks its arguments: a verifier that knows the helper rejects those instead.
        if any(words in refused.log for words in ("unknown#", "invalid func", "unknown func")):
            raise _Lacking("the verifier does not know the helper") from None
        if not refused.log:
            raise


def _fexit() -> None:
    slot = SlotConfig(actions=0, priority=0)
    with load_dispatcher(DispatcherConfig(DEFAULT_VERSION, (slot, slot))) as dispatcher:
        target = function_ids(dispatcher)[MAIN]
        with bpf.prog_load(
            bpf.ProgType.TRACING,
            RETURN_0,
            name="xdptui_probe",
            attach_type=BPF_TRACE_FEXIT,
            attach_btf_id=target,
            attach_fd=dispatcher.fileno(),
        ) as program:
            bpf.trace_attach(program).close()


ATTEMPTS = (
    _Attempt(
        "kernel.test-run", "trial runs (BPF_PROG_TEST_RUN)", _test_run, Level.WARN,
        "Candidates can't be tried on packets before they are applied",
    ),
    _Attempt(
        "kernel.calls", "functions in programs (bpf-to-bpf calls)", _calls, Level.ERROR,
        "Static linkage, and every dispatcher, consists of functions that call each other",
        "Only a newer kernel helps (4.16); on some processors calls need the JIT: "
        "`sysctl -w net.core.bpf_jit_enable=1`",
    ),
    _Attempt(
        "kernel.tail-calls", "tail calls from programs with functions", _tail_calls, Level.INFO,
        "tailcall linkage does not support components with functions of their own",
    ),
    _Attempt(
        "kernel.btf", "BTF of programs and maps", _types, Level.WARN,
        "Without BTF there is no freplace linkage, and maps are shown in less detail",
    ),
    _Attempt(
        "kernel.bind-map", "maps bound to programs (BPF_PROG_BIND_MAP)", _bind, Level.ERROR,
        "A static chain carries its description in maps bound to it: without them it "
        "can't be read back",
    ),
    _Attempt(
        "kernel.freeze", "frozen maps (BPF_MAP_FREEZE)", _freeze, Level.ERROR,
        "A chain's description is frozen so that it can't be changed afterwards",
    ),
    _Attempt(
        "kernel.swap", "atomic replacement on the hook", _swap, Level.ERROR,
        "Without it a change could remove a program that somebody else has just attached",
    ),
    _Attempt(
        "kernel.mmapable", "memory-mapped arrays (BPF_F_MMAPABLE)", lambda: _array(BPF_F_MMAPABLE).close(),
        Level.INFO, "Programs' global variables can't be read without a system call",
    ),
    _Attempt(
        "kernel.frags", "multi-buffer packets (BPF_F_XDP_HAS_FRAGS)", _frags, Level.INFO,
        "XDP programs can't run in native mode on interfaces with jumbo frames",
    ),
    _Attempt(
        "kernel.xdp-link", "attaching by bpf_link", _link, Level.INFO,
        "Other tools may need it; chains are attached by netlink",
    ),
    _Attempt(
        "kernel.raw-tracepoint", "raw tracepoints", _raw_tracepoint, Level.INFO,
        "XDP errors in the driver can't be monitored",
    ),
    _Attempt(
        "kernel.loop", "the helper bpf_loop", _loop, Level.INFO,
        "Components that use it can't be loaded",
    ),
)  # fmt: skip


def examine_kernel() -> tuple[Finding, ...]:
    """Try everything (about 20 ms). Nothing is left behind."""
    try:
        with _xdp() as program:
            jited = bpf.prog_info(program).jited_len
    except (bpf.BpfError, XdpChainError) as refused:
        what = f"an XDP program can't be loaded: {_reason(refused)}"
        if _denied(refused):
            return (
                info(
                    Topic.KERNEL, "kernel.xdp", "what this kernel can do was not tried: " + what,
                    "Nothing can be loaded with this process's permissions",
                    AS_ROOT,
                ),
            )  # fmt: skip
        why = "Nothing works without it"
        return (error(Topic.KERNEL, "kernel.xdp", what, why, "Boot a kernel with CONFIG_BPF_SYSCALL"),)
    capable = not missing_capabilities()
    return (
        ok(Topic.KERNEL, "kernel.xdp", "XDP programs load"),
        *(_tried(attempt, capable) for attempt in ATTEMPTS),
        *_linking(),
        _compiled(jited),
    )


def _tried(attempt: _Attempt, capable: bool) -> Finding:
    try:
        attempt.attempt()
    except (bpf.BpfError, XdpChainError, OSError, _Lacking) as refused:
        # With all capabilities, EPERM means kernel policy: the same as a missing feature.
        if isinstance(refused, PermissionDenied) or (not capable and _denied(refused)):
            what = f"{attempt.name}: not tried, not permitted"
            return info(
                Topic.KERNEL,
                attempt.check,
                what,
                attempt.why,
                AS_ROOT,
            )
        what = f"{attempt.name}: no, {_reason(refused)}"
        return Finding(attempt.level, Topic.KERNEL, attempt.check, what, attempt.why, attempt.fix)
    return ok(Topic.KERNEL, attempt.check, f"{attempt.name}: yes")


def _linking() -> Iterator[Finding]:
    """freplace and fexit, and the trampolines that both need."""
    probed = probe_freplace()
    if probed.works:
        yield ok(Topic.KERNEL, "kernel.freplace", "freplace (programs of type EXT): yes")
    else:
        yield warn(
            Topic.KERNEL, "kernel.freplace", f"freplace: no, {probed.reason}",
            "Chains are linked statically: they work, but libxdp's tools can't share them",
            "Use a kernel that allows it (5.10); only the vendor or the hypervisor can change a policy",
        )  # fmt: skip
    refused: Exception | None = None
    try:
        _fexit()
    except (bpf.BpfError, XdpChainError) as failure:
        refused = failure
    if refused is None:
        yield ok(Topic.KERNEL, "kernel.fexit", "fexit (programs of type TRACING): yes")
    else:
        yield warn(
            Topic.KERNEL, "kernel.fexit", f"fexit: no, {_reason(refused)}",
            "freplace chains and other tools' programs can't be counted slot by slot",
            "Use a kernel that allows it (5.5); static chains have their own counters",
        )  # fmt: skip
    yield _trampolines(probed.works or refused is None, refused)


def _trampolines(work: bool, refused: Exception | None) -> Finding:
    check = "kernel.trampolines"
    if work:
        return ok(Topic.KERNEL, check, "BPF trampolines: yes")
    if refused is not None and _denied(refused):
        what = "BPF trampolines: not known, because what needs them is not permitted"
        return info(Topic.KERNEL, check, what, "freplace and fexit need them")
    return warn(
        Topic.KERNEL, check, "BPF trampolines: no",
        "freplace and fexit need them: chains are linked statically",
        "Use a newer kernel, if it has them for this processor (x86 5.5, arm64 6.0, s390 6.3)",
    )  # fmt: skip


def _compiled(jited: int) -> Finding:
    if jited:
        return ok(Topic.KERNEL, "kernel.jit", "programs are compiled to machine code (JIT)")
    return warn(
        Topic.KERNEL, "kernel.jit", "programs are interpreted: the JIT is off",
        "Each packet takes several times as long, and tracing and freplace do not work",
        advise(Do.SWITCH_JIT_ON),
    )  # fmt: skip


def _denied(refused: Exception) -> bool:
    return isinstance(refused, OSError) and refused.errno in (errno.EPERM, errno.EACCES)


def _reason(refused: Exception) -> str:
    if isinstance(refused, bpf.BpfError):
        code = refused.errno or 0
        if code in (errno.EPERM, errno.EACCES):
            return "this kernel blocks it (EPERM)"
        if code == ENOTSUPP:
            return "not supported (ENOTSUPP)"
        return f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"
    if isinstance(refused, XdpChainError):
        return refused.why or refused.what
    return str(refused)
