# SPDX-License-Identifier: Apache-2.0
"""Everything is in pyproject.toml except this: a build records the commit it was built from."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithCommit(build_py):
    """An installation in place reads the commit of its checkout instead."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            of_version = runpy.run_path(str(ROOT / "xdptui" / "version.py"))
            target = Path(self.build_lib, "xdptui", of_version["COMMIT"])
            target.unlink(missing_ok=True)
            if commit := of_version["checked_out"](ROOT):
                target.write_text(f"{commit}\n")


setup(cmdclass={"build_py": BuildWithCommit})
