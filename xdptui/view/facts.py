# SPDX-License-Identifier: Apache-2.0
"""A program of an object file, and the findings about it, as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.objects.objfile import ObjectFile, ProgramSpec

if TYPE_CHECKING:
    from xdpchain.change.checks import Finding

__all__ = ["finding_text", "program_facts"]

SIGNS = {"ok": ("✓", "$success"), "warn": ("!", "$warning"), "error": ("✗", "$error")}


def program_facts(source: ObjectFile, spec: ProgramSpec) -> list[str]:
    """What an object file declares about one of its programs, one line each."""
    declared = "declares" if spec.has_run_config else "declares nothing, so"
    config = spec.run_config
    lines = [
        f"{spec.name}  section {spec.section}  {spec.insn_count} instructions  "
        f"licence {source.licence or 'none stated'}  {'' if spec.frags else 'no '}multi-buffer",
        f"{declared} priority {config.priority}, continues on {config.actions}",
    ]
    used = [spec_ for spec_ in source.maps if spec_.name in spec.maps]
    if used:
        shown = ", ".join(
            f"{m.name} ({m.type_name} {m.key_size}→{m.value_size} B × {m.max_entries})" for m in used[:6]
        )
        lines.append(f"maps: {shown}{f' and {len(used) - 6} more' if len(used) > 6 else ''}")
    else:
        lines.append("maps: none")
    return lines


def finding_text(finding: Finding) -> tuple[str, str, str]:
    """Sign, colour and text of a finding."""
    sign, style = SIGNS[finding.level]
    return sign, style, f"{finding.text}. {finding.todo}" if finding.todo else finding.text
