# SPDX-License-Identifier: Apache-2.0
"""What the verifier's log tells a program's author: what is wrong, where, and what to do. Pure.

The log is kernel text about somebody else's program: quote it like any other untrusted text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["OWN_TYPES", "Refused", "read_log"]


class Refused(NamedTuple):
    """``verdict`` in the kernel's words; the source ``line`` at which it stopped ("file.c:47: text", or only
    the text on kernels before 6.10, e1a7562f4b81; empty without line info); ``advice`` as a sentence, empty
    if we have none.
    """

    verdict: str
    line: str
    advice: str

    @property
    def why(self) -> str:
        """The verdict, and where."""
        return f"{self.verdict} (at {self.line})" if self.line else self.verdict


_INSTRUCTION = re.compile(r"\d+: ")
_SOURCE = re.compile(r"; (?P<text>.*?)(?: @ (?P<place>[^@]*:\d+))?$")
# Registers are listed as "R1=ctx(...)" or "R1_w=..."; "R1 invalid mem access" is a verdict.
_NO_VERDICT = re.compile(
    r"\s*$|\d+: |;|[Ff]unc#|Validating |from \d+ to|\s*R\d+(_\w*)?=|verification time|stack depth|processed|"
    r"mark_precise|last_idx|regs=|parent "
)

_ADVICE = {
    r"invalid access to packet": "Check `data + N <= data_end` before reading N bytes",
    r"invalid mem access '\w*_or_null'": "Check the pointer for NULL first: a lookup can fail",
    # 'inv' before kernel 5.18. Of what was a packet pointer, it is what the helpers leave.
    r"invalid mem access '(?:scalar|inv)'": (
        "That is no pointer: after bpf_xdp_adjust_head(), _meta() or _tail(), read data and data_end again"
    ),
    r"failed to resolve CO-RE relocation": (
        "This kernel has no such type or field: test for it with bpf_core_field_exists() before using it"
    ),
    r"invalid access to map value": "Bound the index or offset by the size of the map's value",
    r"metadata kfuncs require device-bound": (
        "It reads RX metadata, which only a program that is bound to the device can"
    ),
    r"R0 !read_ok": "Return a value on every path",
    r"R\d+ !read_ok": "Initialise the variable on every path before it is read",
    r"back-edge from insn": "This kernel does not allow a loop here: unroll it, or use bpf_loop()",
    r"infinite loop detected": "Give the loop a constant bound, and make every iteration progress towards it",
    r"program is too large|too many states|jumps is too complex": (
        "Use bpf_loop() for loops, or move parts into global functions, which are verified once"
    ),
    r"combined stack size|(?:write|read) (?:to|from) stack.* off=-(?:5[2-9]\d|[6-9]\d\d|\d{4,})": (
        "Move large variables from the stack (512 bytes) into a per-CPU map"
    ),
    r"(?:read|access) (?:from|to) stack": (
        "Initialise the whole variable, including padding (`= {}`), before passing its address"
    ),
    r"unreachable insn": "Remove the unreachable code, or compile with -O2",
    r"min value is negative|unbounded m": (
        "Make the variable unsigned and bound it (`n &= MASK`) before using it as a size or offset"
    ),
    r"modified ctx ptr": "Access struct xdp_md by its fields, through the original pointer",
    r"invalid bpf_context access": "Only use fields of struct xdp_md that this kernel has, and don't "
    "write to them",
    r"pointer arithmetic|prohibited": "Don't do arithmetic on that pointer: copy the value you need",
    r"cannot call GPL-restricted function": 'Declare the licence: char LICENSE[] SEC("license") = "GPL";',
    r"unknown func|cannot use helper|helper .* not (?:supported|allowed)": (
        "That helper function is not available to XDP programs on this kernel"
    ),
    r"kernel function .* not allowed": "That kernel function is not available to XDP programs on this kernel",
    r"Unreleased reference|reference leak": (
        "Release what was acquired (a socket, a ring buffer record) on every path"
    ),
    r"holding a lock|spin_lock": "Release the lock on every path, and call nothing while holding it",
    r"misaligned": "Access memory at the alignment of its type",
    r"R\d+ type=\w+ expected=": "Pass the kind of pointer that the helper expects (stack, packet, map value)",
}


OWN_TYPES = re.compile(r"bpf_(list|rb)_(head|node|root)|kptr")
"""Matches verdicts on objects that a program allocates (bpf_obj_new) and stores in maps: both must have the
same BTF.
"""


def read_log(log: str) -> Refused:
    """What a verifier log says is wrong: the line or two after the last instruction it checked."""
    told = log.splitlines()
    last = max((i for i, line in enumerate(told) if _INSTRUCTION.match(line)), default=-1)
    said = [line.strip() for line in told[last + 1 :] if not _NO_VERDICT.match(line)]
    before = [line.strip() for line in told if not _NO_VERDICT.match(line)]
    verdict = "; ".join(said[:2]) or (before or ["no reason given"])[-1]
    advice = next((words for pattern, words in _ADVICE.items() if re.search(pattern, verdict)), "")
    return Refused(verdict, _line(told[: last + 1]), advice)


def _line(told: list[str]) -> str:
    for line in reversed(told):
        found = _SOURCE.match(line)
        if found:
            parts = (found["place"] or "").strip(), found["text"].strip()
            return ": ".join(part for part in parts if part)
    return ""
