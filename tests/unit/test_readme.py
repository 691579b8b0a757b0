# SPDX-License-Identifier: Apache-2.0
"""docs/keys.md names the keys that there are, the README pictures that exist."""

from __future__ import annotations

import re
from pathlib import Path

from xdptui.view.keys import KEYS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
KEYS_PAGE = (ROOT / "docs" / "keys.md").read_text()


def test_every_key_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", KEYS_PAGE, re.MULTILINE))
    assert {key.label: key.text for key in KEYS}.items() <= rows.items()


def test_links_and_pictures_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
