# SPDX-License-Identifier: Apache-2.0
"""Which helpers a loaded program calls. The kernel shows a call as the distance of the function from
__bpf_call_base, and often calls one for the type of map in place of the helper (``htab_map_lookup_elem``).
Look-ups in arrays are inlined (array_map_gen_lookup).
"""

from __future__ import annotations

from collections.abc import Sequence

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import Instruction, decode, encode
from xdpchain.sys.kallsyms import functions_at, kernel_address
from xdpchain.sys.libbpf.kernel_enums import kernel_enum

__all__ = ["helper_of", "with_helpers"]

_BASE = "__bpf_call_base"
_PREFIX = "BPF_FUNC_"
_ENDINGS = {
    "map_lookup_elem": op.Helper.MAP_LOOKUP_ELEM,
    "map_update_elem": op.Helper.MAP_UPDATE_ELEM,
    "map_delete_elem": op.Helper.MAP_DELETE_ELEM,
    "map_redirect": op.Helper.REDIRECT_MAP,
}


def with_helpers(image: bytes) -> bytes:
    """The instructions, to be analysed and not to be run, with the helpers' numbers in the calls, as far as
    the kernel shows its functions, and a call where a look-up that was inlined reads its key.
    """
    base = kernel_address(_BASE)
    if base is None:
        return image
    numbers = {name.removeprefix(_PREFIX): number for number, name in kernel_enum("bpf_func_id").items()}
    lines = list(decode(image))
    names = functions_at(frozenset(base + line.immediate for line in lines if _calls_helper(line)))
    for at, line in enumerate(lines):
        if _reads_key(lines, at):
            lines[at] = Instruction(op.CALL, 0, op.CALL_HELPER, 0, op.Helper.MAP_LOOKUP_ELEM)
        if _calls_helper(line):
            number = helper_of(names.get(base + line.immediate, ""), numbers)
            if number is not None:
                lines[at] = line._replace(immediate=number)
    return encode(lines)


def _calls_helper(line: Instruction) -> bool:
    return line.code == op.CALL and line.source == op.CALL_HELPER


def _reads_key(lines: Sequence[Instruction], at: int) -> bool:
    """Whether this is ``r0 = *(u32 *)(r2 + 0)`` of an inlined look-up: r1 is a map, and r0 its bound's."""
    read = Instruction(op.LDX_W, 0, 2, 0, 0)
    if lines[at] != read or at + 1 == len(lines) or lines[at + 1].code != op.JMP | op.JGE:
        return False
    return any(
        (line.code, line.target, line.source) == (op.LD_IMM64, 1, op.IMM_MAP)
        for line in lines[max(0, at - 4) : at]
    )


def helper_of(function: str, numbers: dict[str, int]) -> int | None:
    """The helper that a kernel function implements: ``bpf_xdp_redirect`` is redirect for XDP programs, and
    ``bpf_ktime_get_ns`` is ktime_get_ns. ``numbers``: the kernel's, by name. None: not known.
    """
    for ending, number in _ENDINGS.items():
        if function.endswith(ending):
            return number
    name = function.removeprefix("bpf_")
    return numbers.get(name, numbers.get(name.removeprefix("xdp_")))
