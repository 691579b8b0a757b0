# SPDX-License-Identifier: Apache-2.0
"""Shared by tests on the running kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.command_line import CommandLine
from xdpchain.testing.playground import Playground


@pytest.fixture
def cli(playground: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    """xdptui in the playground's namespace."""
    return CommandLine(playground, capsys, samples)


@pytest.fixture
def three(root: None) -> Iterator[Playground]:
    """A playground with three interfaces."""
    with Playground(links=3) as made:
        yield made


@pytest.fixture
def many(three: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    """xdptui with three interfaces."""
    return CommandLine(three, capsys, samples)
