# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: records which files the selected tests are in, and which plugins they don't need.

Python is 14 to 20 times slower in a guest, so it should not import the rest there. Active if
`XDPTUI_LAB_COLLECTED` names the file to write (JSON).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["pytest_collection_finish"]


# Plugin -> the fixtures it provides. They take seconds to import there, as Hypothesis does.
_BY_FIXTURE = {"textual-snapshot": {"snap_compare"}, "syrupy": {"snapshot", "snap_compare"}}
_HYPOTHESIS = "hypothesispytest"


def _idle(items: list[Any]) -> list[str]:
    fixtures = {name for item in items for name in getattr(item, "fixturenames", ())}
    idle = [plugin for plugin, its_own in _BY_FIXTURE.items() if not fixtures & its_own]
    if not any(hasattr(getattr(item, "obj", None), "hypothesis") for item in items):
        idle.append(_HYPOTHESIS)
    return idle


def pytest_collection_finish(session: Any) -> None:
    """Runs when the selection is final. `by_name`: the command line itself named the files."""
    config = session.config
    found = {
        "by_name": config.args_source.name == "ARGS",
        "tests": len(session.items),
        "files": sorted({str(item.path.relative_to(config.rootpath)) for item in session.items}),
        "idle_plugins": _idle(session.items),
    }
    Path(os.environ["XDPTUI_LAB_COLLECTED"]).write_text(json.dumps(found))
