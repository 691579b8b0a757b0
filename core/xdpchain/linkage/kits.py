# SPDX-License-Identifier: Apache-2.0
"""Our own functions and types that linked programs include."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.frozen import frozen
from xdpchain.model.component import Component
from xdpchain.objects.btf import Btf
from xdpchain.objects.btf_types import Func, Kind
from xdpchain.sys import shipped

from .compile import compile_component
from .dispatcher.emit import MAIN

__all__ = ["CONFIG_VERSION", "Kit", "component_prototype", "kit_of"]

CONFIG_VERSION = 3


@frozen
class Kit:
    """Functions of ours: their object's unit, where each begins, and their BTF names."""

    unit: LinkableProgram
    starts: Mapping[str, int]


@cache
def kit_of(name: str) -> Kit:
    """The functions of a shipped object."""
    compiled = compile_component(Component("functions"), shipped.read(name), {})
    compiled.close()
    btf = Btf.parse(compiled.unit.btf)
    return Kit(compiled.unit, {btf.type(type_id).name: at for at, type_id in compiled.unit.functions})


@cache
def component_prototype() -> tuple[bytes, int, int]:
    """BTF with the dispatcher's main function: the blob, and the IDs of the function and its prototype."""
    compiled = compile_component(Component(MAIN), shipped.read(f"dispatcher_v{CONFIG_VERSION}"), {})
    compiled.close()
    main = Btf.parse(compiled.unit.btf).find(MAIN, Kind.FUNC)
    assert isinstance(main, Func)
    return compiled.unit.btf, main.id, main.prototype
