# SPDX-License-Identifier: Apache-2.0
"""What a code section's name says about its programs.

libbpf's rules, from the kernel's Documentation/bpf/libbpf/program_types.rst: a name matches exactly, or (if
marked ``+`` there) is a word that may be followed by ``/`` and details. For a name without a match the loader
must set the programs' type. ``xdp/filter`` does not match: libbpf 1.0 ended sloppy prefix matching.
"""

from __future__ import annotations

from typing import Final

from xdpchain.frozen import frozen

__all__ = ["EXT", "UNKNOWN", "XDP", "SectionKind", "classify"]

XDP: Final = "xdp"
EXT: Final = "ext"
UNKNOWN: Final = ""


@frozen
class SectionKind:
    """``kind``: ``xdp``, ``ext`` (freplace), the first word of another section that libbpf knows, or empty.

    ``attach``, for XDP programs: the intended attachment (``xdp``, ``devmap``, ``cpumap``). ``frags``:
    they declare multi-buffer support. ``autoload``: loaded by default (without libbpf's ``?`` prefix).
    """

    kind: str
    attach: str = ""
    frags: bool = False
    autoload: bool = True


_XDP: Final = {
    "xdp": ("xdp", False),
    "xdp/devmap": ("devmap", False),
    "xdp/cpumap": ("cpumap", False),
    "xdp.frags": ("xdp", True),
    "xdp.frags/devmap": ("devmap", True),
    "xdp.frags/cpumap": ("cpumap", True),
}

_EXACT_NAMES: Final = """
    socket sk_reuseport sk_reuseport/migrate tc tc/ingress tc/egress tcx/ingress tcx/egress classifier action
    netkit/primary netkit/peer syscall netfilter perf_event lwt_in lwt_out lwt_xmit lwt_seg6local sockops
    sk_skb sk_skb/stream_parser sk_skb/stream_verdict sk_skb/verdict sk_msg sk_lookup lirc_mode2
    flow_dissector cgroup_skb/ingress cgroup_skb/egress
    cgroup/skb cgroup/sock cgroup/sock_create cgroup/sock_release
    cgroup/post_bind4 cgroup/post_bind6 cgroup/bind4 cgroup/bind6
    cgroup/connect4 cgroup/connect6 cgroup/connect_unix
    cgroup/sendmsg4 cgroup/sendmsg6 cgroup/sendmsg_unix cgroup/recvmsg4 cgroup/recvmsg6 cgroup/recvmsg_unix
    cgroup/getpeername4 cgroup/getpeername6 cgroup/getpeername_unix
    cgroup/getsockname4 cgroup/getsockname6 cgroup/getsockname_unix
    cgroup/sysctl cgroup/getsockopt cgroup/setsockopt cgroup/dev
"""
_WORDS_BEFORE_DETAILS: Final = """
    kprobe kretprobe uprobe uprobe.s uretprobe uretprobe.s kprobe.multi kretprobe.multi kprobe.session
    uprobe.multi uprobe.multi.s uretprobe.multi uretprobe.multi.s uprobe.session uprobe.session.s
    ksyscall kretsyscall usdt usdt.s tracepoint tp raw_tracepoint raw_tracepoint.w raw_tp raw_tp.w tp_btf
    fentry fentry.s fexit fexit.s fsession fsession.s fmod_ret fmod_ret.s
    lsm lsm.s lsm_cgroup iter iter.s struct_ops struct_ops.s
"""
_EXACT: Final = frozenset(_EXACT_NAMES.split())
_WITH_DETAILS: Final = frozenset(_WORDS_BEFORE_DETAILS.split())


def classify(section: str) -> SectionKind:
    """How libbpf treats programs in a section with this name."""
    autoload = not section.startswith("?")
    section = section.removeprefix("?")
    if section in _XDP:
        attach, frags = _XDP[section]
        return SectionKind(XDP, attach, frags, autoload)
    word = section.partition("/")[0]
    if word == "freplace":
        return SectionKind(EXT, autoload=autoload)
    if section in _EXACT or word in _WITH_DETAILS:
        return SectionKind(word, autoload=autoload)
    return SectionKind(UNKNOWN, autoload=autoload)
