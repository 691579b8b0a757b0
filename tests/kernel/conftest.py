# SPDX-License-Identifier: Apache-2.0
"""What tests on the running kernel share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.command_line import CommandLine
from xdpchain.testing.playground import Playground


@pytest.fixture
def cli(playground: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    """xdptui in the playground's namespace."""
    return CommandLine(playground, capsys, samples)
