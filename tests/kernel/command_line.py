# SPDX-License-Identifier: Apache-2.0
"""Shared by tests of the command line: call it as scripts do, in this process or in a separate one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from xdpchain.testing.playground import Playground
from xdptui.cli import main

__all__ = ["COMMAND", "CommandLine", "Result"]

COMMAND = (sys.executable, "-m", "xdptui")


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The JSON error it ended with."""
        return json.loads(self.err)["error"]

    def slots(self) -> list[str]:
        """The names of the running slots after a change, in order."""
        return [slot["name"] for slot in self.json["running"]["slots"]]


class CommandLine:
    """xdptui in the playground's namespace."""

    def __init__(self, playground: Playground, capture: pytest.CaptureFixture[str], samples: Path) -> None:
        self.playground = playground
        self.interface = playground.ifname
        self._capture = capture
        self._samples = samples

    def sample(self, name: str) -> str:
        return str(self._samples / f"{name}.o")

    def __call__(self, *words: str) -> Result:
        """Run it in this process."""
        self._capture.readouterr()
        code = main([*words, "--netns", self.playground.netns])
        return Result(code, *self._capture.readouterr())

    def ok(self, *words: str) -> Result:
        """The same with --json; it must succeed."""
        result = self(*words, "--json")
        assert result.code == 0, result.err
        return result

    def load(self, *names: str) -> Result:
        """Load samples by name, statically linked: that works, and counts, on every kernel."""
        return self.ok("load", self.interface, *map(self.sample, names), "--linkage", "static")

    def status(self) -> Any:
        """The entry of the interface under test."""
        return self.ok("status", self.interface).json["interfaces"][0]

    def process(self, *words: str, run: Callable[..., Any] = subprocess.run, **options: Any) -> Any:
        """Run it in a separate process."""
        command = [*COMMAND, *words, "--netns", self.playground.netns]
        return run(command, text=True, **options)
