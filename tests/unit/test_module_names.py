# SPDX-License-Identifier: Apache-2.0
"""The end of a module's name says where its text is shown, so it stands in that folder."""

from __future__ import annotations

from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "xdptui"
ENDS = {"view": "_lines", "render": "_text", "words": "_words"}


@pytest.mark.parametrize("folder", ENDS)
def test_no_module_has_the_end_of_another_folder(folder: str) -> None:
    names = [path.stem for path in (PROGRAM / folder).glob("*.py")]
    assert any(name.endswith(ENDS[folder]) for name in names)
    others = tuple(end for end in ENDS.values() if end != ENDS[folder])
    assert [name for name in names if name.endswith(others)] == []
