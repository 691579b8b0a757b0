# SPDX-License-Identifier: Apache-2.0
"""The documentation check finds what it is meant to find (`make check` runs it on our own)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

DOCUMENT = """\
# A head, and more

[a](good.md) [b](good.md#there) [c](#a-head-and-more) [d](https://example.com/x)
[e](nothing.md) [f](good.md#not-there) [g](#nor-here)

    xdptui load eth0 a.o -P 10      # why
    sudo .venv/bin/xdptui follow eth0 udp port 53 -w - | wireshark -k -i -
    xdptui load
    xdptui set eth0 fw --nonsense
    make demo
    make nosuch

`xdptui folow`, `xdptui load|unlaod`, `xdptui move IF [SLOT TO]`, `xdptui move [IF`; but
`xdptui follow`, `xdptui load|unload`, `xdptui move IF SLOT TO`, `xdptui --help`, `xdptui plan FILE`, `xdptui
watch [IF] [--json]`, `xdptui set IF SLOT --shadow | --no-shadow` are good.

`rooms/here.py` and `here.py` are there, `rooms/gone.py` is not.
"""

FOUND = [
    "4: the link nothing.md leads nowhere: no such file",
    "4: the link good.md#not-there leads nowhere: no such heading",
    "4: the link #nor-here leads nowhere: no such heading",
    "8: `xdptui load` is refused: the following arguments are required: IF, OBJ",
    "9: `xdptui set eth0 fw --nonsense` is refused: unrecognized arguments: --nonsense",
    "11: there is no target for `make nosuch`",
    "13: `xdptui folow` is refused: there is no command 'folow'",
    "13: `xdptui load` is refused: the following arguments are required: IF, OBJ",
    "13: `xdptui move IF` is refused: the following arguments are required: TO",
    "13: `xdptui move [IF` can't be read: a bracket has no other half",
    "17: there is no file `rooms/gone.py`",
]


def test_what_leads_nowhere_or_is_refused_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.md").write_text(DOCUMENT)
    (tmp_path / "good.md").write_text("## There\n\n[back](bad.md) `xdptui status`\n")
    (tmp_path / "core" / "rooms").mkdir(parents=True)
    (tmp_path / "core" / "rooms" / "here.py").touch()
    (tmp_path / "Makefile").write_text("demo: setup\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    script = ROOT / "scripts" / "check_docs.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, "")
    assert [line.removeprefix("bad.md:") for line in done.stdout.splitlines()] == FOUND
