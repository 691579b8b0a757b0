# SPDX-License-Identifier: Apache-2.0
"""Metadata that programs declare in BTF: run configurations and versions.

libxdp's protocol: a data section ``.xdp_run_config`` has a struct variable ``_<function>`` for each program,
in which ``priority`` and ``XDP_<ACTION>`` are declared with ``__uint``. This applies to object files and to
the BTF of loaded programs. Everything is found by name, since clang sets the sections' sizes and offsets to
zero.
"""

from __future__ import annotations

from typing import Final

from xdpchain.errors import InvalidInput
from xdpchain.model.actions import ALL_ACTIONS, ActionSet
from xdpchain.model.runconfig import RunConfig

from . import btf_types as types
from .btf import Btf, BtfError

__all__ = ["RUN_CONFIG_SECTION", "read_metadata_version", "read_run_configs"]

RUN_CONFIG_SECTION: Final = ".xdp_run_config"
_ACTIONS: Final = {action.xdp_name: action for action in ALL_ACTIONS}


def read_run_configs(btf: Btf) -> dict[str, RunConfig]:
    """The run configurations by full function name, without programs that have none.

    Omitted members keep their defaults, as in libxdp: a configuration with only XDP_DROP continues after
    XDP_PASS too. Raises InvalidInput for an unknown member, a member that is not a number, or a priority out
    of range.
    """
    configs: dict[str, RunConfig] = {}
    for section in btf.datasecs(RUN_CONFIG_SECTION):
        for variable, _ in btf.variables(section):
            if variable.name.startswith("_") and variable.name[1:] not in configs:
                configs[variable.name[1:]] = _config(btf, variable)
    return configs


def _config(btf: Btf, variable: types.Variable) -> RunConfig:
    function = variable.name[1:]
    described = btf.resolve(variable.type_id)
    if not isinstance(described, types.Struct):
        raise _bad(function, f"{variable.name} is not a struct")
    default = RunConfig()
    priority, mask = default.priority, default.actions.mask
    for member in described.members:
        action = _ACTIONS.get(member.name)
        if action is None and member.name != "priority":
            known = ", ".join(("priority", *_ACTIONS))
            raise _bad(function, f"it has an unknown member {member.name!r}", f"Allowed: {known}")
        try:
            declared = btf.declared_number(member.type_id)
        except BtfError as error:
            raise _bad(
                function, f"its member {member.name} is not a number declared with __uint()"
            ) from error
        if action is None:
            priority = declared
        elif declared:
            mask |= 1 << action
        else:
            mask &= ~(1 << action)
    try:
        return RunConfig(priority, ActionSet(mask))
    except InvalidInput as error:
        raise _bad(function, str(error)) from error


def _bad(function: str, why: str, todo: str = "Correct XDP_RUN_CONFIG in its source") -> InvalidInput:
    return InvalidInput(f"The run configuration of {function!r} can't be read", why, todo)


def read_metadata_version(btf: Btf, section: str, variable: str) -> int | None:
    """A version declared as ``__uint(variable, version) SEC(section)``, or None if undeclared.

    Used by dispatchers (``xdp_metadata``, ``dispatcher_version``) and libxdp's default AF_XDP program
    (``xdp_metadata``, ``xsk_prog_version``). Raises BtfError if it is declared differently.
    """
    for datasec in btf.datasecs(section):
        for declared, _ in btf.variables(datasec):
            if declared.name == variable:
                return btf.declared_number(declared.type_id)
    return None
