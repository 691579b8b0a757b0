# SPDX-License-Identifier: Apache-2.0
"""If the kernel refuses freplace, `make test` runs two halves one after the other; if either fails, the whole
fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST, ALONE, LAB = "host: 7 passed", "host: 1 alone", "lab: 3 passed"


def run(
    folder: Path, host: int, lab: int, *arguments: str, alone: int = 1, refuses: bool = True
) -> tuple[int, list[str]]:
    """The script, with halves that exit with these codes, and with `alone` for the repeat of failed tests:
    the script's own exit code, and the halves' lines.
    """
    doubles = {
        ".venv/bin/python": f"""case $*
            in -c*) exit {int(refuses)};; *--last-failed*) echo "{ALONE}"; exit {alone};; esac
            echo "{HOST}"; exit {host}""",
        "tests/vm/run": f'echo "{LAB}"; exit {lab}',
    }
    for name, body in doubles.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    (folder / "scripts").mkdir(exist_ok=True)
    script = shutil.copy(ROOT / "scripts" / "test", folder / "scripts" / "test")
    environment = {key: value for key, value in os.environ.items() if key != "VENV"}
    done = subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, [line for line in done.stdout.splitlines() if line in (HOST, ALONE, LAB)]


@pytest.mark.parametrize(("host", "lab", "whole"), [(0, 0, 0), (2, 0, 1), (0, 1, 1), (0, 125, 1), (5, 0, 1)])
def test_either_half_fails_the_whole(tmp_path: Path, host: int, lab: int, whole: int) -> None:
    assert run(tmp_path, host, lab) == (whole, [LAB, HOST])


@pytest.mark.parametrize("alone", [0, 1])
def test_what_fails_beside_other_tests_has_to_pass_alone(tmp_path: Path, alone: int) -> None:
    assert run(tmp_path, 1, 0, alone=alone) == (alone, [LAB, HOST, ALONE])


@pytest.mark.parametrize(("host", "lab", "whole"), [(0, 5, 0), (5, 0, 0), (5, 1, 1)])
def test_a_choice_may_be_in_one_half_only(tmp_path: Path, host: int, lab: int, whole: int) -> None:
    assert run(tmp_path, host, lab, "-k", "name") == (whole, [LAB, HOST])


def test_one_half_is_enough_where_the_kernel_takes_all(tmp_path: Path) -> None:
    assert run(tmp_path, 0, 1, refuses=False) == (0, [HOST])
